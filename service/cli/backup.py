"""``monosemy backup`` and ``restore``: everything a deployment has, in one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from monosemy.console import reporting
from service.cli.output import JsonFlag, print_json, readable_errors, say
from service.kit.errors import NoDatabase
from service.settings import Settings


@readable_errors
def backup(
    target: Annotated[Path, typer.Argument(help="Folder to write; it must not be there yet.")],
    as_json: JsonFlag = False,
) -> None:
    """Write database and artifacts into a folder; the service may keep running.

    Activation caches are left out.  Needs the database's address and the artifact folder, so it
    runs where the service does.

    Example: monosemy backup /backups/2026-11-24
    """
    from service.backup.backup import back_up

    settings = Settings()
    with reporting(None) as reporter:
        manifest = back_up(_url(settings), settings.artifacts, target, reporter)
    _tell(f"Written: {target}", manifest, as_json)


@readable_errors
def restore(
    source: Annotated[Path, typer.Argument(help="Folder that 'monosemy backup' wrote.")],
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Overwrite what the database and the artifact folder hold."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Put a backup into an empty database and artifact folder, and bring it to this version.

    Every file is checked first.  Stop API and workers before you start it.

    A backup holds SQL, which runs with the rights of the role in MONOSEMY_DATABASE_URL: restore
    only backups that you trust, by a role that is no superuser.

    Example: monosemy restore /backups/2026-11-24
    """
    from service.backup.backup import is_superuser
    from service.backup.backup import restore as put_back

    settings = Settings()
    if is_superuser(_url(settings)):
        say(
            "The database role is a superuser, and so will be the SQL of the backup: restore only"
            " what you trust, or name a lesser role in MONOSEMY_DATABASE_URL."
        )
    with reporting(None) as reporter:
        manifest = put_back(_url(settings), settings.artifacts, source, reporter, replace)
    _tell("Restored", manifest, as_json)


def _url(settings: Settings) -> str:
    if not settings.database_url:
        raise NoDatabase
    return settings.database_url


def _tell(done: str, manifest: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({name: value for name, value in manifest.items() if name != "files"})
        return
    say(
        f"{done}; {len(manifest['files']):,} files, {manifest['bytes'] / 1e6:,.1f} MB,"
        f" schema {manifest['revision']}, made {manifest['created_at']}"
    )
