"""Child processes that do not outlive this one, whatever ends it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from service.stack.account import Account

PR_SET_PDEATHSIG = 1
_prctl = getattr(ctypes.CDLL(None), "prctl", None)
"""Linux only; elsewhere children are ended by ``stop`` alone."""


def spawn(
    command: Sequence[str | Path],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    account: Account | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
    keep_open: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts ``command`` in a session of its own, its output appended to ``log``.

    The kernel (Linux) sends it ``death_signal`` when this process ends, by ``kill -9`` too.
    ``account``: run as that user (only root can).  ``keep_open``: descriptors it inherits.
    """
    log.parent.mkdir(parents=True, exist_ok=True)

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=None if environment is None else dict(environment),
                start_new_session=True,
                pass_fds=tuple(keep_open),
                preexec_fn=_tie_to_parent(death_signal),
                **({} if account is None else account.popen_options()),
            )

    return _spawner(os.getpid()).submit(start).result()


@lru_cache(maxsize=1)
def _spawner(pid: int) -> ThreadPoolExecutor:  # noqa: ARG001
    """One thread starts every child.

    The kernel ties a child to the thread that forked it, so that thread must live as long as the
    process: a request or monitor thread that ends would take its children along.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


def _tie_to_parent(death_signal: signal.Signals) -> Callable[[], None]:
    parent = os.getpid()

    # Runs between fork and exec, after the change of user (which would clear the setting).
    def tie() -> None:
        if _prctl is not None:
            _prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def alive(process: subprocess.Popen[bytes] | None) -> bool:
    """Whether it still runs.  Does not collect an ended one, so that its group id stays its own."""
    if process is None or process.returncode is not None:
        return False
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, process.pid, options) is None


def end_group(process: subprocess.Popen[bytes], first: signal.Signals, seconds: float) -> None:
    """Ends the process and its group: ``first``, then ``SIGKILL`` after ``seconds``."""
    if process.returncode is not None:
        return
    signal_group(process, first)
    deadline = time.monotonic() + seconds
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    # What it left behind in its group goes too, also when it had ended by itself.
    signal_group(process, signal.SIGKILL)
    process.wait()


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To every process of its group; none if it was collected already."""
    if process.returncode is not None:
        return
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return


def last_lines(log: Path, count: int = 12) -> str:
    """The end of a log file, for an error message; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-count:])
