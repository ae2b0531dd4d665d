"""``monosemy keys``: API keys, straight in the database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.output import JsonFlag, out, print_json, print_table, readable_errors, say
from service.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")


@contextmanager
def _session(settings: Settings) -> Iterator[Session]:
    # SQLAlchemy takes a third of a second to import: only these commands wait for it.
    from service.database.session import make_engine, transaction

    with transaction(make_engine(settings.database_url)) as session:
        yield session


def _end_of(days: int | None) -> dt.datetime | None:
    return None if days is None else dt.datetime.now(dt.UTC) + dt.timedelta(days=days)


@app.command()
@readable_errors
def create(
    name: Annotated[str, typer.Argument(help="Who or what will use it.")],
    scopes: Annotated[
        str, typer.Option(help="Of read, infer, run, admin; comma-separated.")
    ] = "read",
    expires: Annotated[
        int | None, typer.Option(min=1, max=3650, help="Days until it expires.")
    ] = None,
    max_running: Annotated[
        int | None, typer.Option(min=1, help="Most of its runs under way at once.")
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(
            "--requests-per-minute", min=1, help="Most requests a minute, over all replicas."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key and print it: the only time that it can be seen.

    Example: monosemy keys create alice --scopes read,run
    """
    from service.keys.service import create_key

    settings = Settings()
    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    with _session(settings) as session:
        key = create_key(
            session, name, wanted, settings.secret, _end_of(expires), max_running, requests
        )
    if as_json:
        print_json({"name": name, "scopes": wanted, "key": key})
    else:
        say("Keep it: it is not stored and cannot be shown again.")
        out.print(key, highlight=False, soft_wrap=True)


@app.command("list")
@readable_errors
def list_(as_json: JsonFlag = False) -> None:
    """List keys, by prefix.

    Example: monosemy keys list
    """
    from service.keys.service import list_keys

    with _session(Settings()) as session:
        keys = [
            {
                "id": str(key.id),
                "name": key.name,
                "prefix": key.prefix,
                "scopes": ",".join(key.scopes),
                "created_at": key.created_at,
                "expires_at": key.expires_at,
                "revoked_at": key.revoked_at,
                "last_used_at": key.last_used_at,
            }
            for key in list_keys(session)
        ]
    if as_json:
        print_json(keys)
        return
    rows = [(k["prefix"], k["name"], k["scopes"], k["last_used_at"], k["revoked_at"]) for k in keys]
    print_table(("prefix", "name", "scopes", "last used", "revoked"), rows)


@app.command()
@readable_errors
def revoke(
    key: Annotated[str, typer.Argument(help="Prefix, name or id of the key.")],
    as_json: JsonFlag = False,
) -> None:
    """Revoke a key at once.

    Example: monosemy keys revoke mnsy_Ab3dEf
    """
    from service.keys.service import revoke_key

    with _session(Settings()) as session:
        revoked = revoke_key(session, key)
        summary = {"id": str(revoked.id), "name": revoked.name, "prefix": revoked.prefix}
    if as_json:
        print_json(summary)
    else:
        say(f"Revoked {summary['prefix']} ({summary['name']}).")
