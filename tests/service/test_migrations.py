"""Alembic revisions against a real database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from monosemy.errors import MonosemyError
from service.database.migrate import (
    current_revision,
    downgrade,
    head_revision,
    is_current,
    migrate,
)
from service.database.session import make_engine
from service.database.tables import Base

pytestmark = pytest.mark.integration


def differences(url: str) -> list[object]:
    engine = make_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        changes = compare_metadata(context, Base.metadata)
    engine.dispose()
    return changes


def tables(url: str) -> set[str]:
    engine = make_engine(url)
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names


def test_up_down_up_gives_the_declared_schema(empty_database_url: str) -> None:
    assert migrate(empty_database_url) == head_revision()
    assert differences(empty_database_url) == []
    assert tables(empty_database_url) == {*Base.metadata.tables, "alembic_version"}

    assert downgrade(empty_database_url, "base") is None
    assert tables(empty_database_url) == {"alembic_version"}

    migrate(empty_database_url)
    assert differences(empty_database_url) == []


def test_comparison_notices_a_missing_column_and_index(empty_database_url: str) -> None:
    """The comparison above would be worth nothing if it saw nothing."""
    migrate(empty_database_url)
    engine = make_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE runs DROP COLUMN error"))
        connection.execute(text("DROP INDEX ix_explanations_embedding"))
    engine.dispose()
    kinds = {difference[0] for difference in differences(empty_database_url)}  # type: ignore[index]
    assert kinds == {"add_column", "add_index"}


def test_migrating_twice_changes_nothing(empty_database_url: str) -> None:
    migrate(empty_database_url)
    engine = make_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO documents VALUES ('t', 0, 'kept')"))
    assert migrate(empty_database_url) == head_revision()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT name FROM documents")).scalar_one() == "kept"
    engine.dispose()


def test_replicas_that_migrate_at_once_all_succeed(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        reached = list(pool.map(migrate, [empty_database_url] * 4))
    assert reached == [head_revision()] * 4
    assert differences(empty_database_url) == []


def test_readiness_tells_old_from_current(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    with engine.connect() as connection:
        assert current_revision(connection) is None
    assert not is_current(engine)
    migrate(empty_database_url)
    assert is_current(engine)
    engine.dispose()


def test_an_unreachable_server_is_told_in_a_sentence(tmp_path) -> None:
    with pytest.raises(MonosemyError, match="MONOSEMY_DATABASE_URL"):
        migrate(f"postgresql://postgres@/postgres?host={tmp_path}")
