"""What lies in the artifact root, seen without following a single link."""

from __future__ import annotations

import os
import re
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from monosemy.workspace import Kind

KINDS = (Kind.SAES, Kind.INDEXES, Kind.RUNS, Kind.TEXT, Kind.ACTIVATIONS, Kind.MODELS)
"""Kinds that are collected."""

_TEXT_ID = re.compile(r"[0-9a-f]{16}")
_UUID_LENGTH = 36
_TEMPORARY = (".part", ".partial", ".new", ".tmp")


@dataclass(frozen=True)
class Found:
    """One thing that can be removed as a whole."""

    kind: Kind
    parts: tuple[str, ...]
    """Its path below the root."""

    @property
    def path(self) -> str:
        return "/".join(self.parts)

    @property
    def name(self) -> str:
        """In its kind's folder."""
        return self.parts[1]

    @property
    def temporary(self) -> bool:
        """Whether its name is one that unfinished work bears."""
        return self.name.startswith(".") or self.name.endswith(_TEMPORARY)


@dataclass(frozen=True)
class Extent:
    """What a thing takes up, and when it was touched last (seconds since the epoch)."""

    bytes: int
    """As the file system has them allocated: what its removal gives back."""
    written: float
    read: float
    """When a file of it was read or written last, as far as the file system notes that."""


def entries(root: Path, kind: Kind) -> Iterator[Found]:
    """What lies directly in a kind's folder; links, there or in the kind's place, are left out."""
    for name in _names(root / kind):
        yield Found(kind, (kind, name))


def within(root: Path, entry: Found) -> Iterator[Found]:
    """What lies directly in ``entry``, each as a thing of its own; links are left out."""
    for name in _names(root.joinpath(*entry.parts)):
        yield Found(entry.kind, (*entry.parts, name))


def _names(folder: Path) -> list[str]:
    if folder.is_symlink():
        return []
    try:
        with os.scandir(folder) as listing:
            return sorted(entry.name for entry in listing if not entry.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return []


def extent(root: Path, entry: Found) -> Extent:
    """Of ``entry`` with all that is below it.  Raises ``OSError`` where it cannot be read, or is
    gone."""
    return _extent(root.joinpath(*entry.parts))


def _extent(path: Path) -> Extent:
    status = path.lstat()
    size, written, read = status.st_blocks * 512, status.st_mtime, status.st_mtime
    if stat.S_ISREG(status.st_mode):
        read = max(read, status.st_atime)
    if stat.S_ISDIR(status.st_mode):
        with os.scandir(path) as listing:
            below = [Path(entry.path) for entry in listing]
        for each in below:
            inner = _extent(each)
            size += inner.bytes
            written, read = max(written, inner.written), max(read, inner.read)
    return Extent(size, written, read)


def is_run_id(name: str) -> bool:
    """Whether a worker may have given this name: the canonical form of a UUID."""
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False


def index_of(name: str) -> tuple[str, str] | None:
    """(SAE, text id) of an index folder's name; None when a worker cannot have given it."""
    sae, text_id = name[:_UUID_LENGTH], name[_UUID_LENGTH + 1 :]
    if is_run_id(sae) and name[_UUID_LENGTH:][:1] == "-" and _TEXT_ID.fullmatch(text_id):
        return sae, text_id
    return None


def text_of(name: str) -> str | None:
    """Text id of a token store's or an activation cache's name; None for other names."""
    text_id, _, _ = name.partition("-")
    return text_id if _TEXT_ID.fullmatch(text_id) else None
