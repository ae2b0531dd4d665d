"""A backup: ``database.dump``, ``artifacts/`` and ``manifest.json`` with every file's hash.

The database comes first.  What its rows name is on disk by then and is not changed any more, so
that artifacts may be copied while the service runs; files that come later are copied or not, and
no row of the backup names them.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from monosemy.errors import MonosemyError
from monosemy.half_written import faults_naming
from monosemy.progress import Reporter
from monosemy.workspace import Kind
from service.backup import programs
from service.database.migrate import migrate
from service.database.session import make_engine
from service.kit.errors import Unavailable
from service.version import version

DUMP, MANIFEST, ARTIFACTS = "database.dump", "manifest.json", "artifacts"
FORMAT = 1
LEFT_OUT = frozenset({Kind.ACTIVATIONS})
"""Caches that are made anew from text and host model."""
_BLOCK = 2**20


def back_up(url: str, artifacts: Path, target: Path, reporter: Reporter) -> dict[str, Any]:
    """Writes a backup to ``target``, which appears once it is whole; returns its manifest.

    Raises ``MonosemyError`` where something lies there already, or the database cannot be read,
    ``Unavailable`` where that does not answer.
    """
    target = target.absolute()
    if target.exists():
        raise MonosemyError(f"{target} is there already.", "Name a folder that is not.")
    _ask(url, "SELECT 1")  # one that is away is told of before anything is written
    half = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with faults_naming(target, half):
            half.mkdir(parents=True)
            manifest = _write(url, artifacts, half, reporter)
            half.rename(target)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
    return manifest


def _write(url: str, artifacts: Path, folder: Path, reporter: Reporter) -> dict[str, Any]:
    """A backup into ``folder``; its manifest."""
    with reporter.stage("database", 1, "dumps") as stage:
        programs.dump(url, folder / DUMP)
        stage.advance()
    files = {DUMP: _described(folder / DUMP)}
    files |= _copy_all(artifacts, folder / ARTIFACTS, reporter)
    manifest = {
        "format": FORMAT,
        "version": version(),
        "revision": _revision(url),
        "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "bytes": sum(each["bytes"] for each in files.values()),
        "files": files,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
    return manifest


def check(source: Path, reporter: Reporter) -> dict[str, Any]:
    """Reads every file of a backup; ``MonosemyError`` names what is missing or damaged."""
    try:
        manifest: dict[str, Any] = json.loads((source / MANIFEST).read_text())
        files, _ = manifest["files"], manifest["files"][DUMP]
    except (OSError, ValueError, KeyError, TypeError):
        raise MonosemyError(f"{source} holds no backup: no readable {MANIFEST}.") from None
    if manifest.get("format") != FORMAT:
        raise MonosemyError(f"{source} is of another format than this version reads.")
    with reporter.stage("check", manifest["bytes"], "bytes") as stage:
        for name, expected in files.items():
            path = source / name
            if not path.resolve().is_relative_to(source.resolve()):
                raise MonosemyError(f"{source / MANIFEST} names a file outside: {name}.")
            if not path.is_file() or _described(path) != expected:
                raise MonosemyError(f"{path} is missing or damaged.", "Take another backup.")
            stage.advance(expected["bytes"])
    return manifest


def restore(
    url: str, artifacts: Path, source: Path, reporter: Reporter, replace: bool = False
) -> dict[str, Any]:
    """Puts a backup into an empty database and an empty artifact folder, and migrates it.

    Every file is checked before anything is touched, and no file is copied that the manifest does
    not name.  Raises ``MonosemyError`` for a damaged backup, for a dump with anything but tables,
    and, unless ``replace``, for a target that holds something.

    The dump's SQL runs with the rights of the role in ``url``.  Hashes tell damage, not intent: who
    can change a backup can change its manifest.
    """
    manifest = check(source, reporter)
    programs.check_contents(source / DUMP)
    full = _has_rows(url) or (artifacts.is_dir() and any(artifacts.iterdir()))
    if full and not replace:
        raise MonosemyError(
            "There is something in the database or the artifact folder already.",
            "Restore into an empty one, or say --replace to lose what is there.",
        )
    _empty(url)
    if artifacts.is_dir():
        for path in artifacts.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    with reporter.stage("database", 1, "dumps") as stage:
        programs.load(url, source / DUMP)
        stage.advance()
    named = {source / name for name in manifest["files"]}
    _copy_all(source / ARTIFACTS, artifacts, reporter, named)
    migrate(url)
    return manifest


def is_superuser(url: str) -> bool:
    """Whether the role in ``url`` may do anything to the database server and its machine."""
    return bool(_ask(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")[0][0])


def _copy_all(
    source: Path, target: Path, reporter: Reporter, named: set[Path] | None = None
) -> dict[str, dict[str, Any]]:
    """Copies what is to be kept, of it only what is ``named``; bytes and SHA-256 of each file by
    its path in the backup."""
    paths = [path for path in _kept(source) if named is None or path in named]
    copied: dict[str, dict[str, Any]] = {}
    total = sum(path.stat().st_size for path in paths if path.is_file())
    target.mkdir(parents=True, exist_ok=True)
    with reporter.stage("copy", total, "bytes") as stage:
        for path in paths:
            name = path.relative_to(source)
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                entry = _copy(path, target / name)
            except FileNotFoundError:
                continue  # a checkpoint that was replaced meanwhile: no row names it
            copied[str(Path(ARTIFACTS) / name)] = entry
            stage.advance(entry["bytes"])
    return copied


def _kept(root: Path) -> Iterator[Path]:
    """Files below ``root``; links are not followed."""
    for kind in sorted(root.iterdir()) if root.is_dir() else ():
        if kind.name in LEFT_OUT or kind.name.startswith("."):
            continue
        for folder, _, names in os.walk(kind):
            for name in sorted(names):
                path = Path(folder) / name
                if path.is_file() and not path.is_symlink():
                    yield path


def _copy(source: Path, target: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as read, target.open("wb") as write:
        while block := read.read(_BLOCK):
            digest.update(block)
            write.write(block)
            size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _revision(url: str) -> str | None:
    return str(_ask(url, "SELECT version_num FROM alembic_version")[0][0])


def _has_rows(url: str) -> bool:
    """Whether the database has any row worth keeping: an empty schema may be replaced."""
    rows = _ask(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    names = {str(row[0]) for row in rows}
    tables = names & {"runs", "saes", "models", "api_keys"}
    return any(_ask(url, f'SELECT 1 FROM "{name}" LIMIT 1') for name in sorted(tables))


def _empty(url: str) -> None:
    """Extensions stay: to make them anew needs a superuser, which the service's role is not."""
    engine = make_engine(url)
    with engine.begin() as connection:
        for kind, name in connection.execute(text(_RELATIONS)).all():
            connection.execute(text(f'DROP {kind} IF EXISTS public."{name}" CASCADE'))
    engine.dispose()


_RELATIONS = """
SELECT CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
       ELSE 'TABLE' END, relname
FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('e', 'a', 'i'))
"""
"""What is in the schema; what is an extension's or a column's goes or stays with it."""


def _ask(url: str, query: str) -> Any:
    """Rows of a query; ``Unavailable`` where the database does not answer."""
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            return connection.execute(text(query)).all()
    except OperationalError as error:
        raise Unavailable(
            "The database", "The database does not answer. Is MONOSEMY_DATABASE_URL right?"
        ) from error
    finally:
        engine.dispose()
