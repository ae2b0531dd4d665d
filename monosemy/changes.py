"""Messages about changed inputs of a stored result, and stamps that distinguish files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

FileStamp = tuple[str, int, int, int, int]
"""Name, size, times of change of content and of inode (ns), inode."""


def listed(changes: Sequence[str]) -> str:
    """``a, b and c``"""
    if len(changes) < 2:
        return "".join(changes)
    return f"{', '.join(changes[:-1])} and {changes[-1]}"


def file_stamps(paths: Iterable[Path]) -> tuple[FileStamp, ...]:
    """Equal as long as the files are not written to; those that cannot be looked at are left
    out.

    A file that is copied over or put back with its old time has another inode or time of change.
    """
    stamps = []
    for path in sorted(paths):
        try:
            status = path.stat()
        except OSError:
            continue
        stamps.append(
            (str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        )
    return tuple(stamps)


def folder_stamp(folder: Path) -> tuple[FileStamp, ...]:
    """``file_stamps`` of the files right in ``folder`` and one level below."""
    try:
        return file_stamps(
            path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file()
        )
    except OSError:
        return ()
