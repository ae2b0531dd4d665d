"""What a running stack keeps in its home: a lock, its addresses, its logs."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from monosemy.errors import MonosemyError


def close_home(home: Path) -> None:
    """Makes the home, closed to all others; an open one of before is closed.

    Where root's PostgreSQL keeps its data inside and has to get there as another user, the home
    can be passed through but not read, and everything else in it is closed.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = home / "postgres" / "data"
    if os.geteuid() == 0 and data.is_dir() and data.stat().st_uid != 0:
        for each in home.iterdir():
            if not each.is_symlink():
                passed = each.name == "postgres"
                each.chmod(0o711 if passed else each.stat().st_mode & 0o700)
        home.chmod(0o711)
    elif home.stat().st_uid == os.geteuid():
        home.chmod(0o700)


class HomeLock:
    """One stack per home.  The kernel drops the lock with the process, however that ends."""

    def __init__(self, home: Path) -> None:
        self.path = home / "stack.lock"
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def acquire(self) -> None:
        """Raises ``MonosemyError`` that names the process of a stack which holds it."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise MonosemyError(
                f"A stack is running in {self.path.parent} already (process {holder}).",
                "Stop that one first, or choose another folder with MONOSEMY_HOME.",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def write_stack_file(path: Path, data: dict[str, Any]) -> None:
    """Whole or not at all, readable by its owner alone: an address may hold a password."""
    unfinished = path.with_suffix(".json.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(data, file, indent=1)
    unfinished.replace(path)


def fresh_log(folder: Path, name: str) -> Path:
    """``<name>.log``; that of the last start becomes ``<name>.log.1``."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    if log.exists():
        log.replace(folder / f"{name}.log.1")
    return log
