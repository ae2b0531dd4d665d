"""Which faults of the database pass by themselves, and what is told of others."""

from __future__ import annotations

import errno

import psycopg.errors
import pytest
from sqlalchemy.exc import DataError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from monosemy.errors import ModelError
from workers.failures import describe_failure, is_out_of_memory, is_passing


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


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (ValueError("the judge said 'out of memory'"), False),
    ],
)
def test_an_error_that_memory_caused_is_told_as_such(cause: Exception, message: bool) -> None:
    try:
        try:
            raise cause
        except Exception:
            raise ModelError("Cannot load the model 'x'.") from None
    except ModelError as error:
        assert is_out_of_memory(error) == message
        assert describe_failure(error)[0].startswith("Out of memory" if message else "Cannot load")
