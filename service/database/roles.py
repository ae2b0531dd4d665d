"""The role that the service works under: it owns its database and is no superuser.

What only a superuser may do (extensions, owners) is done here, once, by whoever administers the
server; migrations and everything after them need no more than the role has.
"""

from __future__ import annotations

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from monosemy.errors import MonosemyError
from service.kit.errors import Misconfigured, Unavailable

EXTENSIONS = ("vector", "pg_trgm")
_LOCK = 0x6D6E7380
"""Advisory lock of one that prepares at a time."""

_OWNED = """
SELECT c.relkind, c.relname FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
  AND c.relowner <> (SELECT oid FROM pg_roles WHERE rolname = %(role)s)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('e', 'a', 'i'))
"""
"""Relations of ours that another role owns; those of extensions and of columns go with theirs."""
_KINDS = {"v": "VIEW", "m": "MATERIALIZED VIEW", "S": "SEQUENCE"}


def prepare(admin_url: str, service_url: str) -> None:
    """Makes the role of ``service_url`` (or sets its password) and its database, with the
    extensions, and gives it what others own there.  Safe to repeat; ``admin_url``: any database of
    the server, as a superuser.

    Raises ``MonosemyError`` when the server does not answer, lacks an extension, or the two
    addresses name one role.
    """
    service, admin = conninfo_to_dict(service_url), conninfo_to_dict(admin_url)
    role, database = str(service.get("user") or ""), str(service.get("dbname") or "")
    if not role or not database or role == admin.get("user"):
        raise Misconfigured(
            "The service needs a role of its own, and a database.",
            "MONOSEMY_DATABASE_URL names both; the role is another than MONOSEMY_DATABASE_ADMIN_URL"
            " has.",
        )
    password = service.get("password")
    try:
        with psycopg.connect(admin_url, autocommit=True) as server:
            server.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
            _make_role(server, role, None if password is None else str(password))
            _make_database(server, database, role)
            with psycopg.connect(admin_url, dbname=database) as inside:
                _hand_over(inside, role)
    except psycopg.Error as error:
        first = str(error).strip().splitlines()[0].rstrip(".")
        if isinstance(error, psycopg.OperationalError):
            raise Unavailable(
                "The database",
                f"The database cannot be prepared: {first}. Check MONOSEMY_DATABASE_ADMIN_URL and"
                " that PostgreSQL is running.",
            ) from None
        raise MonosemyError(
            f"The database cannot be prepared: {first}.",
            "Check MONOSEMY_DATABASE_ADMIN_URL: a superuser of a server with pgvector and pg_trgm.",
        ) from None


def _make_role(server: psycopg.Connection, role: str, password: str | None) -> None:
    existing = server.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    name = sql.Identifier(role)
    if existing is None:
        server.execute(sql.SQL("CREATE ROLE {}").format(name))
    server.execute(
        sql.SQL("ALTER ROLE {} LOGIN NOSUPERUSER NOCREATEROLE NOREPLICATION NOBYPASSRLS").format(
            name
        )
    )
    if password is not None:
        # Only its hash is sent: what a server logs of a statement must not hold it.
        hashed = server.pgconn.encrypt_password(
            password.encode(), role.encode(), b"scram-sha-256"
        ).decode()
        server.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(hashed)))


def _make_database(server: psycopg.Connection, database: str, role: str) -> None:
    names = {"database": sql.Identifier(database), "role": sql.Identifier(role)}
    existing = server.execute(
        "SELECT 1 FROM pg_database WHERE datname = %s", (database,)
    ).fetchone()
    if existing is None:
        server.execute(sql.SQL("CREATE DATABASE {database} OWNER {role}").format(**names))
    else:
        server.execute(sql.SQL("ALTER DATABASE {database} OWNER TO {role}").format(**names))
    server.execute(sql.SQL("REVOKE ALL ON DATABASE {database} FROM PUBLIC").format(**names))


def _hand_over(inside: psycopg.Connection, role: str) -> None:
    """Within the database, in one transaction."""
    inside.execute("CREATE SCHEMA IF NOT EXISTS public")
    for extension in EXTENSIONS:
        inside.execute(
            sql.SQL("CREATE EXTENSION IF NOT EXISTS {} WITH SCHEMA public").format(
                sql.Identifier(extension)
            )
        )
    owner = sql.Identifier(role)
    inside.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(owner))
    for kind, name in inside.execute(_OWNED, {"role": role}).fetchall():
        kind = kind.decode() if isinstance(kind, bytes) else kind
        inside.execute(
            sql.SQL("ALTER {} public.{} OWNER TO {}").format(
                sql.SQL(_KINDS.get(kind, "TABLE")), sql.Identifier(name), owner
            )
        )
