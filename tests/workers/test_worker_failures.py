"""Which faults of the database pass by themselves."""

from __future__ import annotations

import psycopg.errors
import pytest
from sqlalchemy.exc import DataError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from workers.failures import describe_failure, is_passing


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (OperationalError("s", {}, psycopg.OperationalError("connection refused")), True),
        (OperationalError("s", {}, psycopg.errors.AdminShutdown("going down")), True),
        (OperationalError("s", {}, psycopg.errors.DeadlockDetected("deadlock")), True),
        (OperationalError("s", {}, psycopg.errors.ProgramLimitExceeded("too large")), False),
        (DataError("s", {}, psycopg.errors.UntranslatableCharacter("NUL")), False),
        (ProgrammingError("s", {}, psycopg.errors.UndefinedTable("runs")), False),
        (PoolTimeout("no connection left"), True),
        (ValueError("too deep"), False),
    ],
)
def test_passing_faults(error: Exception, passing: bool) -> None:
    assert is_passing(error) is passing


def test_a_statement_is_not_quoted_with_its_values() -> None:
    fault = psycopg.errors.UndefinedTable("relation is missing\nLINE 1: ...")
    error: SQLAlchemyError = ProgrammingError("INSERT ...", {"text": "a whole corpus"}, fault)
    text, retryable = describe_failure(error)
    assert text == "ProgrammingError: relation is missing" and retryable
