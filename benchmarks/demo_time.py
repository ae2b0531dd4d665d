"""``monosemy demo`` of two commits, in turns on this machine: how long until features are served.

``python benchmarks/demo_time.py BASE [HEAD] --rounds 2 --load 2`` runs the demo of each commit
(``HEAD``: the working tree by default) from an empty home, one after the other, with so many
processes beside it that do nothing but use a core.  Times are from the start of the command to the
end of the index (features are served, with labels from evidence) and to the end of the pipeline.
The host's packages must be installed; neither commit installs anything.  A run is a quarter of an
hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
_MARKS = {"index succeeded": "first", "pipeline succeeded": "all"}
_FIGURES = {
    "FVU, held-out text": r"([\d.]+)",
    "CE recovered, zero ablation": r"([\d.]+)%",
    "tokens indexed": r"([\d,]+)",
}
"""Rows of the demo's first table, and the figure of the SAE in them."""


@dataclass
class Demo:
    """One run of the demo of one commit."""

    commit: str
    seconds: dict[str, float] = field(default_factory=dict)
    """``first`` and ``all``; the total, the stop of the stack included, is ``end``."""
    cpu_seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    explained: int = 0
    code: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base")
    parser.add_argument("head", nargs="?", default="")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--load", type=int, default=0, help="processes that use a core each")
    parser.add_argument("--small", action="store_true", help="the demo's reduced size")
    parser.add_argument("--json", type=Path, help="append each run to this file as it ends")
    options = parser.parse_args()
    demos: list[Demo] = []
    with tempfile.TemporaryDirectory(prefix="demo-time-") as folder:
        trees = [_tree(commit, Path(folder)) for commit in (options.base, options.head)]
        with _load(options.load):
            for _ in range(options.rounds):
                for commit, tree in trees:
                    demo = run(commit, tree, Path(folder), options.small)
                    demos.append(demo)
                    print(json.dumps(asdict(demo)), flush=True)
                    if options.json:
                        with options.json.open("a") as file:
                            file.write(json.dumps(asdict(demo) | {"load": options.load}) + "\n")
    print(table(demos, trees[0][0], trees[1][0]))
    return max(demo.code for demo in demos)


def _tree(commit: str, folder: Path) -> tuple[str, Path]:
    """(name, place) of a commit's files; the working tree for no commit."""
    if not commit:
        return "working tree", ROOT
    place = folder / re.sub(r"\W+", "-", commit)
    place.mkdir()
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=True
    )
    subprocess.run(["tar", "-x", "-C", str(place)], input=archive.stdout, check=True)
    return commit, place


@contextmanager
def _load(count: int) -> Iterator[None]:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def run(commit: str, tree: Path, folder: Path, small: bool) -> Demo:
    """The demo of ``tree`` from an empty home, whose lines are timed as they come."""
    home = Path(tempfile.mkdtemp(prefix="home-", dir=folder))
    command = [sys.executable, "-c", "from service.cli.main import main; main()", "demo", "--exit"]
    command += ["--home", str(home), "--port", "0", *(["--small"] if small else [])]
    # No terminal: stages are whole lines.
    environment = {**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "120"}
    demo, lines = Demo(commit), []
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=sys.stderr, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            mark = _MARKS.get(line.strip())
            if mark is not None:
                demo.seconds[mark] = round(time.monotonic() - start, 1)
    demo.seconds["end"] = round(time.monotonic() - start, 1)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    demo.cpu_seconds = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)
    demo.code = process.returncode
    for name, pattern in _FIGURES.items():
        row = next((line for line in lines if name in line), "")
        figure = re.search(pattern, row.partition(name)[2])
        if figure:
            demo.figures[name] = float(figure[1].replace(",", ""))
    explained = [re.search(r"│\s*explain\s*│\s*explain\s*│\s*([\d,]+)", line) for line in lines]
    demo.explained = max((int(m[1].replace(",", "")) for m in explained if m), default=0)
    if demo.code:
        sys.stderr.write("".join(lines[-20:]))
    shutil.rmtree(home, ignore_errors=True)
    return demo


def table(demos: list[Demo], base: str, head: str) -> str:
    """Medians and, against the base's time to the end of everything, ratios."""

    def median(commit: str, key: str) -> float:
        values = [d.seconds.get(key, float("nan")) for d in demos if d.commit == commit]
        return statistics.median(values)

    whole = median(base, "all")
    lines = ["| | n | first features, s | of base's whole | everything, s | of base's whole |"]
    lines.append("|---|---|---|---|---|---|")
    for commit in dict.fromkeys((base, head)):
        count = sum(demo.commit == commit for demo in demos)
        first, everything = median(commit, "first"), median(commit, "all")
        lines.append(
            f"| {commit} | {count} | {first:.0f} | {first / whole:.2f} | {everything:.0f} | "
            f"{everything / whole:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
