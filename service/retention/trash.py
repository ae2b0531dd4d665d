"""Removal in two steps: out of sight by one rename, then gone.

Folders are opened one below the other without following links, so that nothing outside the root can
be reached, whatever is put in a folder's place meanwhile.
"""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from monosemy.workspace import Kind

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def discard(root: Path, parts: Sequence[str]) -> None:
    """Moves ``root/parts...`` into the trash.

    Raises ``OSError`` when it is gone, a folder on the way is a link, or it lies on another disk.
    """
    with suppress(FileExistsError):
        (root / Kind.TRASH).mkdir(mode=0o700)
    with _opened(root, parts[:-1]) as source, _opened(root, (Kind.TRASH,)) as trash:
        os.rename(
            parts[-1], f"{uuid.uuid4().hex}-{parts[-1]}"[:200], src_dir_fd=source, dst_dir_fd=trash
        )


def empty(root: Path) -> list[str]:
    """Removes what is in the trash, from an earlier run that was cut off too; what could not be."""
    failed: list[str] = []
    try:
        with _opened(root, (Kind.TRASH,)) as trash:
            with os.scandir(trash) as listing:
                names = sorted(entry.name for entry in listing)
            for name in names:
                try:
                    _remove(name, trash)
                except OSError as error:
                    failed.append(f"{Kind.TRASH}/{name}: {error.strerror}")
    except FileNotFoundError:
        pass
    except OSError as error:
        failed.append(f"{Kind.TRASH}: {error.strerror}")
    return failed


def _remove(name: str, folder: int) -> None:
    """Also where another collector removes the same at the same time."""
    while True:
        try:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
                os.unlink(name, dir_fd=folder)
                return
        except FileNotFoundError:
            return
        # rmtree takes links within for what they are, and refuses one in the folder's own place.
        with suppress(FileNotFoundError):
            shutil.rmtree(name, dir_fd=folder)
            return


@contextmanager
def _opened(root: Path, parts: Sequence[str]) -> Iterator[int]:
    """A descriptor of the folder ``root/parts...``."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            below = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)
