"""A run's judge is tested before it is trusted: once, in the run's own ledger and budget."""

from __future__ import annotations

import asyncio
import uuid

from sqlalchemy import Engine

from monosemy.interp.judge_test.asking import (
    ask_role,
    calls_of,
    endpoint_of,
    key_of_test,
    prompt_of,
)
from monosemy.interp.judge_test.result import Role, RoleTest
from monosemy.interp.judging.judge import Judge
from monosemy.progress import Reporter, Stage
from monosemy.specs import ExplainRun, ScoreRun
from service.database.session import transaction
from service.judge_tests import repository

_SECONDS = 1.0
"""Between two looks at how far the test has come."""


def role_of(spec: ExplainRun | ScoreRun) -> Role:
    """What a run wants of its judge."""
    return "explaining" if isinstance(spec, ExplainRun) else "detecting"


async def kept_test(engine: Engine, judge: Judge, role: Role) -> RoleTest | None:
    """The test of this judge as it is asked, by any run or by hand; None where there is none.

    Raises ``JudgeError`` where the judge cannot be had: its model may have to be asked for.
    """
    await judge.answer_format()

    def read() -> RoleTest | None:
        with transaction(engine) as session:
            return repository.kept_test(session, key_of_test(judge, role))

    return await asyncio.to_thread(read)


async def tested_judge(
    engine: Engine, run_id: uuid.UUID, judge: Judge, role: Role, reporter: Reporter
) -> RoleTest:
    """The kept test, or a new one, which is kept.  Says in the run's events what came of it.

    Raises ``BudgetSpent`` where the run's budget ends it (what was answered by then is not asked
    again), ``EndpointError`` where the judge cannot be had.
    """
    test = await kept_test(engine, judge, role)
    if test is None:
        test = await _asked(judge, role, reporter)
        await asyncio.to_thread(_keep, engine, run_id, judge, test)
    sentence = f"judge {judge.model}: {test.warning() or test}"
    await asyncio.to_thread(reporter.log, sentence, judge_test=test.as_dict())
    return test


async def _asked(judge: Judge, role: Role, reporter: Reporter) -> RoleTest:
    ended = 0

    def count() -> None:
        nonlocal ended
        ended += 1

    async def show(stage: Stage) -> None:
        reported = 0
        while reported < calls_of(role):
            await asyncio.sleep(_SECONDS if ended < calls_of(role) else 0)
            new, reported = ended - reported, ended
            await asyncio.to_thread(stage.advance, new)

    with reporter.stage("judge test", calls_of(role), "calls") as stage:
        watcher = asyncio.create_task(show(stage))
        try:
            test = await ask_role(judge, role, count)
            await watcher
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        return test


def _keep(engine: Engine, run_id: uuid.UUID, judge: Judge, test: RoleTest) -> None:
    provenance = judge.provenance()
    with transaction(engine) as session:
        repository.keep_test(
            session,
            key_of_test(judge, test.role),
            test,
            endpoint_of(provenance["address"], provenance["model"]),
            provenance["model"],
            prompt_of(test.role),
            run_id,
        )
