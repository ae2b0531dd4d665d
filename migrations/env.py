"""Alembic environment: revisions run on the connection given, or on the configured database."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from service.database import list_tables  # noqa: F401 - declares its tables
from service.database.session import make_engine
from service.database.tables import Base
from service.settings import get_settings


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    given: Connection | None = context.config.attributes.get("connection")
    if given is not None:
        run(given)
        return
    engine = make_engine(get_settings().database_url)
    try:
        with engine.connect() as connection:
            run(connection)
    finally:
        engine.dispose()


def run_offline() -> None:
    """``--sql``: print the statements instead of running them."""
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
