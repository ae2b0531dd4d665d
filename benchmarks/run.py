"""``make bench``: the benchmarks beside their peers, as one table of ratios.

Writes ``benchmarks/latest.json``, one object per line.  About a quarter of an hour on 2 cores;
``--quick`` takes fewer rounds and the smaller batch only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from results import Line, read

HERE = Path(__file__).parent
LATEST = HERE / "latest.json"


def commands(quick: bool) -> list[list[str]]:
    """Each benchmark appends its lines to ``latest.json``."""
    runs = ["--runs", "2" if quick else "5"]
    batches = ["2048"] if quick else ["2048", "8192"]
    return [
        ["training_step.py", *runs],
        ["training_step.py", "--others", *runs],
        *(["matching_pursuit.py", "--tokens", batch, *runs] for batch in batches),
        ["text_to_sae.py", "--tokens", "16384" if quick else "65536", *runs],
        ["client_overhead.py", *runs],
        ["prompt_economy.py", "--features", "5" if quick else "20"],
        ["inference.py", *(["--rounds", "10"] if quick else [])],
        ["serving.py", *(["--saes", "3", "--seconds", "5"] if quick else [])],
        ["example_building.py", *(["--tokens", "1000000", "--features", "100"] if quick else [])],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    LATEST.unlink(missing_ok=True)
    todo = commands(options.quick)
    failed = []
    for number, command in enumerate(todo, start=1):
        print(f"[{number}/{len(todo)}] {' '.join(command)}", flush=True)
        start = time.monotonic()
        line = [sys.executable, str(HERE / command[0]), *command[1:], "--json", str(LATEST)]
        if subprocess.run(line, check=False, env=os.environ).returncode:
            failed.append(command[0])
        print(f"      {time.monotonic() - start:.0f} s\n", flush=True)
    if LATEST.is_file():
        table(read(LATEST))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def table(lines: list[Line]) -> None:
    print(f"{'':<30}{'ours':>9} {'unit':<10}{'peer':<34}{'peer':>9}{'ratio':>8}")
    for line in lines:
        name, ours, unit = line.name, f"{line.ours:.2f}", line.unit
        for peer, value in line.peers.items() or {"-": float("nan")}.items():
            ratio = value / line.ours
            print(f"{name:<30}{ours:>9} {unit:<10}{peer:<34}{value:>9.2f}{ratio:>7.1f}x")
            name = ours = unit = ""
    print(f"\n{lines[0].machine}; medians of {lines[0].runs}; written to {LATEST}")


if __name__ == "__main__":
    main()
