"""Uploaded SAE folders on disk: ``uploads/<id>`` under the artifact root, which workers share.

What is still being received lies in ``uploads/incoming-<id>``; an upload takes its name once it is
unpacked and checked.  The database knows whose it is and no more: a folder's time is its age.
"""

from __future__ import annotations

import math
import os
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Text, cast, delete, func, select
from sqlalchemy.orm import Session

from monosemy.errors import ConflictError, DataError
from monosemy.formats.archive import (
    Limits,
    check_folder,
    check_name,
    check_names,
    is_archive,
    leave_out,
    sae_folder_in,
    unpack,
)
from monosemy.specs.references import strings
from monosemy.specs.run_states import ACTIVE
from monosemy.workspace import Kind, Workspace
from service.database.tables import Run, Upload

PREFIX = "upload:"
MOST_PENDING = 20
"""Uploads at a time; whoever uploads and never imports must not fill the disk."""
_INCOMING = "incoming-"
_LOCK = 0x6D6E7381
"""Advisory lock of an upload that begins or ends."""
_MAKE_ROOM = "Import or delete one of them first; they also go by themselves."


@dataclass(frozen=True)
class Received:
    """One file of a request, as it lies on disk."""

    name: str
    path: Path


@dataclass(frozen=True)
class Quota:
    """What one owner may have waiting; no limit where keys are not asked for."""

    count: float = math.inf
    total_bytes: float = math.inf


def begin(
    session: Session, workspace: Workspace, key: uuid.UUID | None, quota: Quota
) -> tuple[uuid.UUID, Path]:
    """A new id, noted as ``key``'s, and the folder to receive files into.

    ``ConflictError`` if too many are waiting, of this key or of all; those still being received
    count.
    """
    _one_at_a_time(session)
    root = _root(workspace)
    waiting = {_identity(folder): folder for folder in root.iterdir()}
    if len(waiting) >= MOST_PENDING:
        raise ConflictError(f"{MOST_PENDING} uploads are waiting to be imported.", _MAKE_ROOM)
    own = _own(session, waiting, key)
    if len(own) >= quota.count:
        raise ConflictError(f"{len(own)} uploads of this key wait to be imported.", _MAKE_ROOM)
    _check_bytes(own, 0, quota)
    identity = uuid.uuid4()
    folder = root / f"{_INCOMING}{identity}"
    folder.mkdir()
    note_owner(session, identity, key)
    return identity, folder


def check_room(
    session: Session, workspace: Workspace, identity: uuid.UUID, size: int, quota: Quota
) -> None:
    """``ConflictError`` where the owner of this upload, of ``size`` bytes unpacked, would have more
    bytes waiting than the ``quota`` allows."""
    _one_at_a_time(session)
    waiting = {_identity(folder): folder for folder in _root(workspace).iterdir()}
    waiting.pop(str(identity), None)
    _check_bytes(_own(session, waiting, owner_of(session, identity)), size, quota)


def _own(session: Session, waiting: dict[str, Path], key: uuid.UUID | None) -> list[Path]:
    """Folders of the uploads that ``key`` sent."""
    if key is None:
        return []
    ids = session.scalars(select(cast(Upload.id, Text)).where(Upload.created_by == key))
    return [waiting[each] for each in ids if each in waiting]


def _check_bytes(own: Sequence[Path], more: int, quota: Quota) -> None:
    waiting = sum(map(_bytes_in, own))
    if waiting + more > quota.total_bytes or (own and waiting >= quota.total_bytes):
        raise ConflictError(
            f"Uploads of this key that wait may have {quota.total_bytes} bytes together.",
            _MAKE_ROOM,
        )


def _one_at_a_time(session: Session) -> None:
    """Two that begin at once must not both be the last that may; until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def abandon(folder: Path) -> None:
    """Removes what was received."""
    shutil.rmtree(folder, ignore_errors=True)


def check_received_name(name: str) -> None:
    """``DataError`` unless a file of this name may be sent: an archive, or what an SAE has."""
    if not is_archive(name):
        check_name(name)


def finish(
    workspace: Workspace,
    identity: uuid.UUID,
    incoming: Path,
    files: Sequence[Received],
    limits: Limits,
    admit: Callable[[int], None] = lambda size: None,  # noqa: ARG005
) -> dict[str, int]:
    """Unpacks and checks what was received and gives it its place; bytes of every file by name.

    ``admit`` is asked about its bytes before it gets its place, and raises where there is no room.

    Raises ``DataError`` for whatever is wrong with it.
    """
    if not files:
        raise DataError("No file was sent.", "Send an archive or the files of an SAE folder.")
    folder = incoming / "folder"
    folder.mkdir()
    packed = [file for file in files if is_archive(file.name)]
    if packed and len(files) > 1:
        raise DataError("An archive is sent alone.")
    for file in packed:
        unpack(file.path, file.name, folder, limits)
        file.path.unlink()
    if not packed:
        check_names([file.name for file in files], limits)
        for file in files:
            target = folder / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            file.path.rename(target)
    leave_out(folder)
    sizes = check_folder(folder)
    admit(sum(sizes.values()))
    folder.rename(_root(workspace) / str(identity))
    return sizes


def _identity(folder: Path) -> str:
    return folder.name.removeprefix(_INCOMING)


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except OSError:
            continue  # it is being removed
    return total


def parse_source(source: str) -> tuple[uuid.UUID, str] | None:
    """(id, folder inside) of ``upload:ID`` or ``upload:ID:FOLDER``; None for other sources.

    ``DataError`` for something that begins so and is neither.
    """
    if not source.startswith(PREFIX):
        return None
    identity, _, inside = source.removeprefix(PREFIX).partition(":")
    try:
        upload = uuid.UUID(identity)
    except ValueError:
        raise DataError(f"'{source[:100]}' names no upload: write upload:ID.") from None
    return upload, inside


def locate(workspace: Workspace, source: str) -> Path | None:
    """The SAE's folder that an ``upload:`` source names; None for other sources.

    ``DataError`` if it is not there.
    """
    named = parse_source(source)
    if named is None:
        return None
    folder = _root(workspace) / str(named[0])
    if not folder.is_dir():
        raise DataError(
            f"There is no upload {named[0]}.", "Uploads are removed after a while; send it again."
        )
    return sae_folder_in(folder, named[1])


def claim(workspace: Workspace, source: str) -> None:
    """As ``locate``, for a run that is being submitted: the upload's time begins anew."""
    if locate(workspace, source) is not None:
        named = parse_source(source)
        assert named is not None
        os.utime(_root(workspace) / str(named[0]))


def exists(workspace: Workspace, identity: uuid.UUID) -> bool:
    return (_root(workspace) / str(identity)).is_dir()


def note_owner(session: Session, identity: uuid.UUID, key: uuid.UUID | None) -> None:
    """Notes which API key sent an upload."""
    session.add(Upload(id=identity, created_by=key))


def owner_of(session: Session, identity: uuid.UUID) -> uuid.UUID | None:
    """The API key that sent it; None in open mode and where nobody noted it."""
    return session.scalar(select(Upload.created_by).where(Upload.id == identity))


def forget(session: Session, identity: uuid.UUID) -> None:
    """Forgets whose it was."""
    session.execute(delete(Upload).where(Upload.id == identity))


def remove(workspace: Workspace, identity: uuid.UUID) -> bool:
    """Whether there was such an upload."""
    folder = _root(workspace) / str(identity)
    if not folder.is_dir():
        return False
    # Renamed first: nobody finds half an upload.
    discarded = folder.with_name(f"{_INCOMING}{uuid.uuid4()}")
    folder.rename(discarded)
    shutil.rmtree(discarded, ignore_errors=True)
    return True


def remove_stale(session: Session, workspace: Workspace, hours: float) -> int:
    """Removes what is older than ``hours`` and named by no import that is still to end; how many.

    Called where an upload begins and where an import has ended.
    """
    wanted = _wanted(session)
    oldest = time.time() - hours * 3600
    removed = []
    for folder in _root(workspace).iterdir():
        try:
            old = folder.stat().st_mtime < oldest
        except FileNotFoundError:
            continue  # another process was first
        if old and folder.name not in wanted:
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(_identity(folder))
    session.execute(delete(Upload).where(cast(Upload.id, Text).in_(removed)))
    return len(removed)


def _wanted(session: Session) -> set[str]:
    """Ids of uploads that unfinished runs name, in whatever field."""
    query = select(Run.spec).where(
        Run.state.in_(ACTIVE), cast(Run.spec, Text).contains(PREFIX, autoescape=True)
    )
    wanted: set[str] = set()
    for text in (each for spec in session.scalars(query) for each in strings(spec)):
        try:
            source = parse_source(text)
        except DataError:
            continue  # a text that only begins so
        if source is not None:
            wanted.add(str(source[0]))
    return wanted


def _root(workspace: Workspace) -> Path:
    root = workspace.root_of(Kind.UPLOADS)
    root.mkdir(parents=True, exist_ok=True)
    return root
