"""``make gpu-check``: what has to be known of a card before anything is claimed of it.

    python benchmarks/gpu_check.py [--part kernels|losses|speed|peers|processes] [--device cuda]

| part | what it does | needs |
|---|---|---|
| kernels | every Triton kernel beside PyTorch, at two sizes, in float32 and bfloat16 | a card |
| losses | every architecture beside the losses of the CPU; the buffer; a whole run | nothing |
| speed | steps, share of the card's bfloat16 peak, memory; from text to SAE | a card |
| peers | the same of SAELens and sparsify, taking turns with ours | a card |
| processes | the tests of two processes, over NCCL | two cards |

Offline.  A part ends after ``--minutes`` (8) and goes on where it stood when it is called again:
what has passed is kept in ``--out`` by what it was about (code, device, versions, sizes).  Without
``--part`` all come in turn.  Every call writes ``report.md`` there.  On a CPU ``losses`` compares
the CPU with itself, on one thread and in bfloat16: a rehearsal.

Exit codes: 0 all that was asked has passed; 1 something is wrong, and the report says what; 2 a
part needs a card (or two), or torch, that is not here; 3 the time is over, call again.  The last
line says which, in words; ``make`` itself turns each of 1 to 3 into 2.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("kernels", "losses", "speed", "peers", "processes")
PASSED, FAILED, NO_CARD, UNFINISHED = 0, 1, 2, 3
VERDICTS = {PASSED: "passed", FAILED: "wrong", NO_CARD: "no card", UNFINISHED: "call again"}


def ended(code: int, words: str = "") -> int:
    """Prints the verdict, which make's own exit code hides."""
    print(f"gpu-check: exit {code}, {words or VERDICTS[code]}", flush=True)
    return code


try:
    import torch
    from results import machine
except ModuleNotFoundError as error:
    if __name__ != "__main__":
        raise
    sys.exit(ended(NO_CARD, f"{error.name} is not installed: pip install 'monosemy[train]'"))

_WORST_FIRST = (FAILED, UNFINISHED, NO_CARD, PASSED)

Figures = dict[str, Any]


class Wrong(Exception):
    """A check that has failed; its figures are kept for the report."""

    def __init__(self, message: str, figures: Figures) -> None:
        super().__init__(message)
        self.figures = figures


@dataclass(frozen=True)
class Case:
    """One check or measurement of at most about a minute."""

    name: str
    run: Callable[[], Figures]
    """What it has measured, by name; raises ``Wrong`` or anything else where it fails."""


@dataclass(frozen=True)
class Options:
    """What the cases of a part depend on, besides the machine."""

    device: str
    steps: int
    tokens: int
    """Of the text, from text to SAE."""


class TimeOver(Exception):
    """The part's minutes are over."""


def cases_of(part: str, options: Options) -> list[Case]:
    import gpu_check_numbers
    import gpu_check_speed

    makers: dict[str, Callable[[Options], list[Case]]] = {
        "kernels": gpu_check_numbers.kernels,
        "losses": gpu_check_numbers.losses,
        "speed": gpu_check_speed.speed,
        "peers": gpu_check_speed.peers,
        "processes": gpu_check_numbers.processes,
    }
    return makers[part](options)


def lacking(part: str, device: str) -> str:
    """What a part needs that is not here, in a line; empty where nothing."""
    cards = torch.cuda.device_count() if device == "cuda" else 0
    if part == "processes" and cards < 2:
        return f"processes: needs two cards, {cards} {'is' if cards == 1 else 'are'} here"
    interpreted = part == "kernels" and os.environ.get("TRITON_INTERPRET") == "1"
    if part != "losses" and not cards and not interpreted:
        return f"{part}: needs a card, none is here"
    return ""


def about(options: Options) -> Figures:
    """What results belong to: another code, machine or version, and they are measured anew."""
    digest = hashlib.sha256()
    sources = [*(ROOT / "monosemy").rglob("*.py"), *(ROOT / "monosemy").rglob("*.c")]
    for file in sorted([*sources, *(ROOT / "benchmarks").glob("*.py")]):
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    card = torch.cuda.get_device_name() if options.device == "cuda" else "no card"
    triton = importlib.util.find_spec("triton") is not None
    return {
        "code": digest.hexdigest()[:12],
        "card": card,
        "machine": machine(),
        "cuda": torch.version.cuda,
        "triton": triton,
        "interpreted": os.environ.get("TRITON_INTERPRET") == "1",
        **vars(options),
    }


class Results:
    """A file of what has been measured: by part and case, each with what it is about."""

    def __init__(self, folder: Path, about: Figures) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file, self.about = folder / "results.json", about
        self.entries: dict[str, Figures] = {}
        if self.file.is_file():
            self.entries = json.loads(self.file.read_text(encoding="utf-8"))

    def passed(self, part: str, case: str) -> bool:
        entry = self.entries.get(f"{part}/{case}")
        return entry is not None and entry["about"] == self.about and not entry["wrong"]

    def note(self, part: str, case: str, figures: Figures, wrong: str, seconds: float) -> None:
        self.entries[f"{part}/{case}"] = {
            "figures": figures, "wrong": wrong, "seconds": round(seconds, 1), "about": self.about,
        }  # fmt: skip
        temporary = self.file.with_suffix(".partial")
        temporary.write_text(json.dumps(self.entries, indent=1), encoding="utf-8")
        temporary.replace(self.file)

    def current(self) -> dict[str, Figures]:
        """Those of this code on this machine."""
        return {name: entry for name, entry in self.entries.items() if entry["about"] == self.about}


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises ``TimeOver`` within the block once so much time has gone."""

    def over(_number: int, _frame: FrameType | None) -> None:
        raise TimeOver

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_part(part: str, options: Options, results: Results, seconds: float, only: str = "") -> int:
    """Runs the cases whose name holds ``only`` and that have not passed yet; the exit code."""
    if reason := lacking(part, options.device):
        print(reason)
        return NO_CARD
    code, end = PASSED, time.monotonic() + seconds
    for case in [case for case in cases_of(part, options) if only in case.name]:
        if results.passed(part, case.name):
            print(f"{part}: {case.name}: passed before")
            continue
        start, wrong, figures = time.monotonic(), "", {}
        try:
            with at_most(end - start):
                figures = case.run()
        except TimeOver:
            print(f"{part}: {seconds / 60:.0f} minutes are over before {case.name}: call again")
            return max(code, UNFINISHED, key=_severity)
        except Wrong as error:
            wrong, figures = str(error), error.figures
        except Exception as error:  # a compiler, a driver or a peer may fail in any way
            wrong = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        results.note(part, case.name, figures, wrong, time.monotonic() - start)
        code = FAILED if wrong else code
        print(f"{part}: {case.name}: {wrong or 'passed'} {in_words(figures)}", flush=True)
    return code


def _severity(code: int) -> int:
    return -_WORST_FIRST.index(code)


def in_words(figures: Figures) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in figures.items()
    )


def report(results: Results) -> str:
    """Markdown, to be quoted: a table for each part that has something to say."""
    known = results.about
    lines = [
        "# GPU check", "",
        f"{known['card']}; {known['machine']}; CUDA {known['cuda']}; code {known['code']}", "",
    ]  # fmt: skip
    current = results.current()
    for part in PARTS:
        entries = {
            name.split("/", 1)[1]: e for name, e in current.items() if name.split("/")[0] == part
        }
        lines += [f"## {part}", ""]
        if not entries:
            lines += [lacking(part, known["device"]) or f"{part}: not run", ""]
            continue
        lines += ["| | | figures |", "|---|---|---|"]
        for name, entry in entries.items():
            verdict = entry["wrong"] or "passed"
            lines.append(f"| {name} | {verdict} | {in_words(entry['figures'])} |")
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    return ended(_checked())


def _checked() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--device", choices=["cuda", "cpu"], help="the card, if there is one")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "gpu-check")
    parser.add_argument("--minutes", type=float, default=8.0, help="the most that a part takes")
    parser.add_argument("--steps", type=int, default=30, help="of each architecture, in losses")
    parser.add_argument("--tokens", type=int, default=262_144, help="from text to SAE")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    asked = parser.parse_args()
    device = asked.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        print("no card is here")
        return NO_CARD
    options = Options(device, asked.steps, asked.tokens)
    results = Results(asked.out, about(options))
    codes = []
    for part in [asked.part] if asked.part else PARTS:
        codes.append(run_part(part, options, results, 60 * asked.minutes, asked.only))
        (asked.out / "report.md").write_text(report(results), encoding="utf-8")
    print(f"report: {asked.out / 'report.md'}")
    return max(codes, key=_severity)


if __name__ == "__main__":
    sys.modules["gpu_check"] = sys.modules["__main__"]  # the cases import it
    sys.exit(main())
