"""The user that PostgreSQL runs as.  It refuses root, so root lends it the unprivileged user."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monosemy.errors import MonosemyError

SHARED_ROOT = Path("/var/lib/monosemy")
"""Where root keeps what the unprivileged user must reach and cannot reach elsewhere."""


@dataclass(frozen=True)
class Account:
    """An unprivileged user that exists already; nothing is created and no folder opened to it."""

    uid: int
    gid: int

    @classmethod
    def for_this_process(cls) -> Account | None:
        """``nobody`` when this process is root; None otherwise: run as yourself."""
        if os.geteuid() != 0:
            return None
        try:
            entry = pwd.getpwnam("nobody")
        except KeyError:
            raise MonosemyError(
                "PostgreSQL does not run as root, and this system has no user 'nobody'.",
                "Run monosemy as a normal user, or set MONOSEMY_DATABASE_URL.",
            ) from None
        return cls(entry.pw_uid, entry.pw_gid)

    def popen_options(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can(self, test: str, path: Path) -> bool:
        """Whether this user passes ``test -<test> path``, every parent folder included."""
        return (
            subprocess.run(
                ["/bin/sh", "-c", f'test -{test} "$1"', "sh", str(path)],
                check=False,
                cwd="/",
                **self.popen_options(),
            ).returncode
            == 0
        )

    def own(self, folder: Path) -> None:
        """Creates the folder (its parents must exist) as a private one of this user."""
        folder.mkdir(mode=0o700, exist_ok=True)
        os.chown(folder, self.uid, self.gid)
        folder.chmod(0o700)


def place_for_data(folder: Path, account: Account | None) -> Path:
    """``folder``, or its stand-in below ``SHARED_ROOT`` where the account cannot reach it.

    The stand-in's name comes from the folder's path alone, so that every start finds it again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if account is None:
        return folder
    place = SHARED_ROOT / f"data-{_short_hash(str(folder.resolve()))}"
    if not place.exists() and account.can("x", folder):
        return folder
    if (folder / "data" / "PG_VERSION").exists():
        # Going on elsewhere with an empty database would look like lost data.
        raise MonosemyError(
            f"The user 'nobody', which PostgreSQL runs as here, cannot use the data in {folder}.",
            "Run monosemy as the user who made it, or give that user back its way in.",
        )
    _make_shared(place)
    (place / "belongs-to").write_text(f"{folder}\n")
    return place


def place_for_programs(tree: Path, program: str, account: Account | None) -> Path:
    """``tree``, or a copy that the account can reach.  ``program``: a path in it to try."""
    if account is None or (account.can("x", tree / program) and account.can("r", tree / program)):
        return tree
    stat = (tree / program).stat()
    name = f"programs-{_short_hash(f'{tree.resolve()} {stat.st_size} {stat.st_mtime_ns}')}"
    place = SHARED_ROOT / name
    if not place.exists():
        unfinished = SHARED_ROOT / f"{name}.{os.getpid()}"
        _make_shared(unfinished)
        shutil.copytree(tree, unfinished, symlinks=True, dirs_exist_ok=True)
        unfinished.chmod(0o755)
        try:
            unfinished.rename(place)
        except OSError:  # another process was first
            shutil.rmtree(unfinished)
    return place


def _make_shared(folder: Path) -> None:
    try:
        for part in (SHARED_ROOT, folder):
            part.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise MonosemyError(
            f"PostgreSQL runs as 'nobody' here and needs a folder below {SHARED_ROOT}: {error}.",
            "Run monosemy as a normal user, or set MONOSEMY_DATABASE_URL.",
        ) from error


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
