"""The lines of ``latest.json``: one JSON object per line of ``make bench``'s table."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from monosemy.threads import usable_cores


@dataclass(frozen=True)
class Line:
    name: str
    work: str
    ours: float
    unit: str
    peers: dict[str, float]
    floor: float | None
    runs: int
    machine: str


def machine() -> str:
    """Processor, threads and torch, in words."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    return f"{name}, {usable_cores()} cores, {torch.get_num_threads()} threads, {torch.__version__}"


def append(file: Path, line: Line) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(line)) + "\n")


def read(file: Path) -> list[Line]:
    return [Line(**json.loads(text)) for text in file.read_text(encoding="utf-8").splitlines()]
