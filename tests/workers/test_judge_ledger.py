"""The ledger and the budget of a run, shared by workers, on a real Postgres."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from monosemy.interp.judging.answers import object_schema
from monosemy.interp.judging.batches import BatchLimits
from monosemy.interp.judging.endpoint import Limits
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.ledger import BudgetSpent, Intent, Outcome, about, most
from monosemy.specs import JudgeSpec, PriceSpec, parse_spec
from service.database.judge_tables import JudgeCall, Spend
from service.database.session import transaction
from service.runs.lifecycle import create_run
from tests.support.batch_stub import BatchStub
from tests.support.stub_server import Answer, good
from workers.ledger import PostgresLedger

pytestmark = pytest.mark.integration

PRICE = PriceSpec(input=1_000_000.0, output=1_000_000.0)  # a token costs 1
CALL = Intent("m", prompt_tokens=6, completion_tokens=4)
"""At most 10."""


@pytest.fixture
def run_id(clean_engine: Engine) -> uuid.UUID:
    with transaction(clean_engine) as session:
        session.query(JudgeCall).delete()
        return create_run(session, parse_spec({"kind": "explain", "sae": "x"})).id


def ledger_of(
    engine: Engine, run_id: uuid.UUID, budget: float | None = None, patience: float = 300.0
) -> PostgresLedger:
    return PostgresLedger(engine, run_id, PRICE, budget, patience)


def ledger(engine: Engine) -> list[JudgeCall]:
    with transaction(engine) as session:
        return list(session.scalars(select(JudgeCall).order_by(JudgeCall.sent_at)))


def spend(engine: Engine, run_id: uuid.UUID) -> Spend:
    with transaction(engine) as session:
        return session.get_one(Spend, run_id)


def test_a_call_is_entered_before_it_is_sent_and_after(
    clean_engine: Engine, run_id: uuid.UUID
) -> None:
    seen: list[tuple[Any, ...]] = []

    async def work() -> None:
        mine = ledger_of(clean_engine, run_id)
        with about("detection", 7):
            call = await mine.open(Intent("m", 6, 4))
        [row] = ledger(clean_engine)
        seen.append((row.id == call, row.state, row.purpose, row.feature, row.cost))
        await mine.close(call, Outcome(200, (5, 2, 3)))

    asyncio.run(work())
    assert seen == [(True, "sent", "detection", 7, 10.0)]
    [row] = ledger(clean_engine)
    assert (row.state, row.status, row.prompt_tokens, row.cached_tokens) == ("answered", 200, 5, 2)
    assert (row.completion_tokens, row.cost) == (3, 8.0)
    total = spend(clean_engine, run_id)
    assert (total.calls, total.prompt_tokens, total.cost, total.reserved) == (1, 5, 8.0, 0.0)


@pytest.mark.parametrize(
    ("outcome", "state", "cost"),
    [
        (Outcome(429), "failed", 0.0),  # refused: nothing was done
        (Outcome(None), "failed", 10.0),  # silence: it may have been
        (Outcome(200), "answered", 10.0),  # an endpoint that counts no tokens
    ],
)
def test_what_nobody_knows_counts_with_the_most(
    clean_engine: Engine, run_id: uuid.UUID, outcome: Outcome, state: str, cost: float
) -> None:
    async def work() -> None:
        mine = ledger_of(clean_engine, run_id)
        await mine.close(await mine.open(CALL), outcome)

    asyncio.run(work())
    [row] = ledger(clean_engine)
    assert (row.state, row.cost, spend(clean_engine, run_id).cost) == (state, cost, cost)


def test_two_workers_never_exceed_a_budget_together(
    clean_engine: Engine, run_id: uuid.UUID
) -> None:
    """Each call is entered with the most it can cost, and costs half of that."""
    worst: list[float] = []

    async def worker() -> int:
        mine, made = ledger_of(clean_engine, run_id, budget=95.0), 0
        try:
            while True:
                call = await mine.open(CALL)
                made += 1
                total = await asyncio.to_thread(spend, clean_engine, run_id)
                worst.append(total.cost + total.reserved)
                await asyncio.sleep(0.01)
                await mine.close(call, Outcome(200, (3, 0, 2)))
        except BudgetSpent:
            return made

    async def both() -> list[int]:
        # Calls of one worker at a time, so that they cannot share a transaction.
        return await asyncio.gather(*(worker() for _ in range(4)))

    made = asyncio.run(both())
    assert max(worst) <= 95.0
    # 5 each: the 18th brings it to 90, and another might come to 100.
    assert sum(made) == 18
    total = spend(clean_engine, run_id)
    assert (total.cost, total.calls) == (90.0, 18)
    assert len(ledger(clean_engine)) == 18


def test_the_calls_of_a_dead_worker_hold_their_part_of_the_budget(
    clean_engine: Engine, run_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dead() -> None:
        await ledger_of(clean_engine, run_id, budget=25.0).open(CALL)

    async def alive() -> None:
        mine = ledger_of(clean_engine, run_id, budget=25.0, patience=0.3)
        await mine.close(await mine.open(CALL), Outcome(200, (6, 0, 4)))
        with pytest.raises(BudgetSpent, match="budget of 25"):
            await mine.open(CALL)

    asyncio.run(dead())
    asyncio.run(alive())
    total = spend(clean_engine, run_id)
    assert (total.cost, total.reserved) == (10.0, 10.0)
    assert {row.state for row in ledger(clean_engine)} == {"sent", "answered"}


def test_a_call_that_another_took_the_place_of_is_struck(
    clean_engine: Engine, run_id: uuid.UUID
) -> None:
    """Its part of the budget is free again, also where whoever made it was alive after all."""

    async def work() -> None:
        first, second = (ledger_of(clean_engine, run_id, budget=25.0) for _ in range(2))
        old = await first.open(CALL)
        new = await second.open(CALL)
        await second.taken_over([str(old), "not ours", str(uuid.uuid4())])
        total = await asyncio.to_thread(spend, clean_engine, run_id)
        assert (total.calls, total.reserved) == (1, 10.0)
        await second.close(new, Outcome(200, (6, 0, 4)))
        await first.close(old, Outcome(200, (6, 0, 4)))
        await second.taken_over([str(new)])  # has ended: it stays

    asyncio.run(work())
    [row] = ledger(clean_engine)
    total = spend(clean_engine, run_id)
    assert row.state == "answered"
    assert (total.calls, total.cost, total.reserved) == (1, 10.0, 0.0)


def test_a_batch_found_again_leaves_the_ledger_as_the_server_counts(
    clean_engine: Engine, run_id: uuid.UUID
) -> None:
    """The budget is enough for all questions once, but not for those of the dead worker too."""

    def answer(request: dict[str, Any]) -> Answer:
        return good(number=int(request["messages"][-1]["content"]))

    async def ask(stub: BatchStub) -> list[int]:
        most_of_all = 8000.0
        mine = PostgresLedger(clean_engine, run_id, PRICE, most_of_all, patience=20.0)
        quick = Limits(batch=BatchLimits(quiet=0.1, first_look=0.1))
        async with Judge(stub.url, None, "stub", JudgeSpec(batch=True), quick, mine) as judge:
            schema = object_schema({"number": {"type": "integer"}})
            asked = [[{"role": "user", "content": str(number)}] for number in range(40)]
            answers = await asyncio.gather(*(judge.complete_json(one, schema) for one in asked))
            return [value["number"] for value, _ in answers]

    with BatchStub(answer, delay=2.0) as stub:
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(ask(stub), 1.2))
        assert len(stub.lines) == 40 and spend(clean_engine, run_id).reserved > 7000.0
        assert asyncio.run(ask(stub)) == list(range(40))
    assert len(stub.lines) == 40 and len(stub.batches) == 1
    rows, total = ledger(clean_engine), spend(clean_engine, run_id)
    count = len(stub.lines) + len(stub.probes)
    assert len(rows) == total.calls == count
    assert {row.state for row in rows} == {"answered"}
    assert (total.cost, total.reserved) == (count * 110, 0.0)


def test_answers_are_kept_for_every_worker(clean_engine: Engine, run_id: uuid.UUID) -> None:
    key = uuid.uuid4().hex

    async def work() -> None:
        one, two = ledger_of(clean_engine, run_id), ledger_of(clean_engine, run_id)
        assert await two.recall(key) is None
        await asyncio.gather(
            one.remember(key, {"a": True, "text": "nul \x00"}), two.remember(key, {"a": False})
        )
        recalled = await asyncio.gather(*(each.recall(key) for each in (one, two, one)))
        assert recalled[0] is not None and recalled == [recalled[0]] * 3

    asyncio.run(work())


def test_many_calls_share_a_transaction(clean_engine: Engine, run_id: uuid.UUID) -> None:
    async def work() -> None:
        mine = ledger_of(clean_engine, run_id)
        calls = await asyncio.gather(*(mine.open(CALL) for _ in range(200)))
        assert len(set(calls)) == 200
        await asyncio.gather(*(mine.close(call, Outcome(200, (6, 0, 4))) for call in calls))

    asyncio.run(work())
    assert spend(clean_engine, run_id).calls == 200
    with transaction(clean_engine) as session:
        total = session.scalar(select(func.sum(JudgeCall.cost)))
    assert total == 200 * most(CALL, PRICE)
