"""``monosemy backup`` and ``restore``: everything a deployment has, in one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from monosemy.console import reporting
from monosemy.progress import SILENT
from service.cli.output import JsonFlag, print_json, readable_errors, say
from service.settings import Settings


@readable_errors
def backup(
    target: Annotated[Path, typer.Argument(help="Folder to write; it must not be there yet.")],
    as_json: JsonFlag = False,
) -> None:
    """Write database and artifacts into a folder; the service may keep running.

    Where the embedded stack is stopped, its database is started meanwhile.  Activation caches are
    left out.  Needs the database's address and the artifact folder, so it
    runs where the service does.

    Example: monosemy backup /backups/2026-11-24
    """
    from service.backup.backup import back_up
    from service.stack.data import database_of

    settings = Settings()
    with reporting(None) as reporter, database_of(settings) as url:
        manifest = back_up(url, settings.artifacts, target, reporter)
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

    Every file is checked first.  Stop API and workers before you start it; with the embedded
    stack, stop 'monosemy up': its database is started meanwhile.

    A backup holds SQL, which runs with the rights of the role in MONOSEMY_DATABASE_URL: restore
    only backups that you trust, by a role that is no superuser.

    Example: monosemy restore /backups/2026-11-24
    """
    from service.backup.backup import check, is_superuser
    from service.backup.backup import restore as put_back
    from service.stack.data import database_of

    settings = Settings()
    if not settings.database_url:
        check(source, SILENT)  # before a database is made for it
    with database_of(settings, create=True) as url:
        if is_superuser(url):
            say(
                "The database role is a superuser, and so will be the SQL of the backup: restore"
                " only what you trust, or name a lesser role in MONOSEMY_DATABASE_URL."
            )
        with reporting(None) as reporter:
            manifest = put_back(url, settings.artifacts, source, reporter, replace)
    _tell("Restored", manifest, as_json)


def _tell(done: str, manifest: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({name: value for name, value in manifest.items() if name != "files"})
        return
    say(
        f"{done}; {len(manifest['files']):,} files, {manifest['bytes'] / 1e6:,.1f} MB,"
        f" schema {manifest['revision']}, made {manifest['created_at']}"
    )
