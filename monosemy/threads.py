"""How many threads a program of ours computes with, and how they wait for each other.

Threads of one operator meet at its end.  One that spins meanwhile takes the core from those that it
waits for as soon as anybody else uses the machine.  One that sleeps does not, and then as many
threads as there are cores are right under load too (docs/performance.md).  No torch here: a wait
policy must be in the environment before torch is imported.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

QUIET_WAITS = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
"""For the OpenMP libraries of GNU, LLVM and Intel."""

_CGROUP = Path("/sys/fs/cgroup")


def wait_quietly() -> None:
    """Sets ``QUIET_WAITS`` for this process, unless somebody has chosen."""
    if not any(name in os.environ for name in QUIET_WAITS):
        os.environ.update(QUIET_WAITS)


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Cores that this process may use: those of its affinity, and no more than the quota of its
    container (cgroup v1 or v2), which OpenMP does not look at.  At least 1."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """Cores' worth of time that the container may use; None where there is no limit."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not (limit.isdigit() and period.isdigit() and int(period)):
        return None  # "max", or -1
    return int(limit) / int(period)
