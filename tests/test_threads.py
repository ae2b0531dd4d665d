"""Threads: how many a container allows, and how those of a program wait."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from monosemy.threads import QUIET_WAITS, usable_cores

ALL = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, ALL),
        ({"cpu.max": "max 100000\n"}, ALL),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "100000000 100000\n"}, ALL),
        ({"cpu.max": "nonsense"}, ALL),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, ALL),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "0\n"}, ALL),
    ],
)
def test_a_container_may_allow_fewer_cores(
    tmp_path: Path, files: dict[str, str], cores: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == cores


def test_everything_counts_cores_in_one_way() -> None:
    """The counts of ``os`` and ``multiprocessing`` know no quota of a container."""
    root = Path(__file__).parents[1]
    counting = {
        file.relative_to(root).as_posix()
        for folder in ("monosemy", "service", "workers", "benchmarks")
        for file in (root / folder).rglob("*.py")
        if re.search(r"\b(cpu_count|sched_getaffinity|process_cpu_count)\b", file.read_text())
    }
    assert counting == {"monosemy/threads.py"}


@pytest.mark.parametrize("given", [{}, {"OMP_WAIT_POLICY": "active"}])
def test_workers_wait_quietly_unless_told_otherwise(given: dict[str, str]) -> None:
    plain = {name: value for name, value in os.environ.items() if name not in QUIET_WAITS}
    process = subprocess.run(
        [sys.executable, "-c", "import workers, os; print(os.environ.get('OMP_WAIT_POLICY'))"],
        env={**plain, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.strip() == given.get("OMP_WAIT_POLICY", "passive")
