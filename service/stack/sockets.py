"""Folders for unix sockets, whose paths the kernel limits to 107 characters."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

from monosemy.errors import MonosemyError
from service.stack.account import Account

LONGEST_FOLDER = 80
"""Leaves room for the name of the socket itself."""


def socket_folder(place: Path) -> Path:
    """``place/run``, or one in /tmp where that is too long; always the same for a ``place``."""
    folder = place.resolve() / "run"
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        folder = Path(f"/tmp/monosemy-{os.geteuid()}-{digest}")
    return folder


def open_socket_folder(folder: Path, account: Account | None = None) -> None:
    """Creates it, closed to others; it belongs to ``account`` where one is given."""
    owner = os.geteuid() if account is None else account.uid
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    # In /tmp anyone can have made it first.
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (os.geteuid(), owner):
        raise MonosemyError(f"{folder} belongs to someone else.", "Remove it and start again.")
    if account is None:
        folder.chmod(0o700)
    else:
        account.own(folder)


def close_socket_folder(folder: Path) -> None:
    """Removes it, unless something is left in it."""
    with suppress(OSError):
        folder.rmdir()
