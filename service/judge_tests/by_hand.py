"""Tests of judges outside of runs: looked up and kept where the database is at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from monosemy.errors import MonosemyError
from monosemy.interp.judge_test.asking import endpoint_of, key_of_test, prompt_of
from monosemy.interp.judge_test.result import ROLES, Role, RoleTest
from monosemy.interp.judging.judge import Judge
from service.database.session import make_engine, transaction
from service.judge_tests import repository
from service.settings.settings import Settings


def keys_of(judge: Judge) -> dict[Role, str]:
    """By role; the judge's model must be known."""
    return {role: key_of_test(judge, role) for role in ROLES}


def kept_tests(settings: Settings, keys: Mapping[Role, str]) -> dict[Role, RoleTest]:
    """Those that are kept; none where the database does not answer."""
    try:
        with _engine(settings) as engine, transaction(engine) as session:
            tests = {role: repository.kept_test(session, key) for role, key in keys.items()}
    except (MonosemyError, SQLAlchemyError):
        return {}
    return {role: test for role, test in tests.items() if test is not None}


def keep(settings: Settings, judge: Judge, tests: Mapping[Role, RoleTest]) -> bool:
    """Whether there was a database to keep them in."""
    provenance = judge.provenance()
    endpoint = endpoint_of(provenance["address"], provenance["model"])
    try:
        with _engine(settings) as engine, transaction(engine) as session:
            for role, test in tests.items():
                repository.keep_test(
                    session,
                    key_of_test(judge, role),
                    test,
                    endpoint,
                    provenance["model"],
                    prompt_of(role),
                )
    except (MonosemyError, SQLAlchemyError):
        return False
    return True


@contextmanager
def _engine(settings: Settings) -> Iterator[Engine]:
    engine = make_engine(settings.database_url, pool_size=1)
    try:
        yield engine
    finally:
        engine.dispose()
