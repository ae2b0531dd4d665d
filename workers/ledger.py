"""The ledger of a run's calls to its judge, its budget and the answers kept, in Postgres.

Entries are gathered while the last transaction is under way and written together by the next, so a
busy worker pays one commit for many calls.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, cast

from sqlalchemy import Engine, Table, bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from monosemy.interp.judging.ledger import BudgetSpent, Intent, Outcome, most
from monosemy.specs.parts import PriceSpec
from service.database.judge_tables import JudgeAnswer, JudgeCall, Spend
from service.database.session import transaction
from service.database.storable import storable
from workers.failures import is_passing

logger = logging.getLogger(__name__)


Admission = Literal["entered", "wait", "spent"]
"""Of a call: it is in the ledger; calls under way hold what it needs; or the budget is spent."""
Answer = dict[str, Any]
"""What a judge answered, as it is kept."""
A = TypeVar("A")
M = TypeVar("M")


class _Message(Generic[A]):
    """One thing to write or to read; ``A`` is what its sender gets."""


@dataclass(frozen=True)
class _Open(_Message[Admission]):
    """A call is to be entered as sent."""

    call: uuid.UUID
    intent: Intent


@dataclass(frozen=True)
class _Close(_Message[None]):
    """A call has ended."""

    call: uuid.UUID
    intent: Intent
    outcome: Outcome


@dataclass(frozen=True)
class _Strike(_Message[None]):
    """Calls that others of the run took the place of."""

    calls: Sequence[str]


@dataclass(frozen=True)
class _Recall(_Message[Answer | None]):
    """The answer kept under ``key`` is asked for."""

    key: str


@dataclass(frozen=True)
class _Remember(_Message[None]):
    """An answer is to be kept under ``key``."""

    key: str
    answer: Answer


@dataclass(frozen=True)
class _Waiting:
    """A message in the queue, and who waits for what comes of it."""

    message: _Message[Any]
    done: asyncio.Future[Any]


class PostgresLedger:
    """``Ledger`` of one run, for one event loop.  Waits for a database that is away."""

    def __init__(
        self,
        engine: Engine,
        run_id: uuid.UUID,
        price: PriceSpec,
        budget: float | None,
        patience: float = 300.0,
    ) -> None:
        """``patience``: seconds to wait for a budget that calls under way hold."""
        self._engine, self._run_id = engine, run_id
        self.price, self._budget, self._patience = price, budget, patience
        self._waiting: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None
        self._under_way: dict[uuid.UUID, Intent] = {}

    async def open(self, intent: Intent) -> uuid.UUID:
        """Enters a call as sent.  Raises ``BudgetSpent``."""
        call = uuid.uuid4()
        waited = 0.0
        while (room := await self._ask(_Open(call, intent))) != "entered":
            if room == "spent" or waited > self._patience:
                raise BudgetSpent(f"The budget of {self._budget:g} allows no further call.")
            await asyncio.sleep(0.1)
            waited += 0.1
        self._under_way[call] = intent
        return call

    async def close(self, call: uuid.UUID, outcome: Outcome) -> None:
        await self._ask(_Close(call, self._under_way.pop(call), outcome))

    async def taken_over(self, calls: Sequence[str]) -> None:
        """Strikes calls of this run that others of it took the place of, as after a kill."""
        await self._ask(_Strike(calls))

    async def recall(self, key: str) -> Answer | None:
        return await self._ask(_Recall(key))

    async def remember(self, key: str, answer: Answer) -> None:
        await self._ask(_Remember(key, answer))

    async def _ask(self, message: _Message[A]) -> A:
        done: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(message, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all())
        return await done

    async def _write_all(self) -> None:
        """Until nothing is waiting any more."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                answers = await self._committed([each.message for each in batch])
            except Exception as error:
                for each in batch:
                    if not each.done.done():
                        each.done.set_exception(error)
                continue
            for each, answer in zip(batch, answers, strict=True):
                if not each.done.done():  # its caller may have been cancelled
                    each.done.set_result(answer)

    async def _committed(self, messages: Sequence[_Message[Any]]) -> list[Any]:
        while True:
            try:
                return await asyncio.to_thread(self._commit, messages)
            except Exception as error:
                if not is_passing(error):
                    raise
                logger.warning("the ledger waits for the database: %s", type(error).__name__)
                await asyncio.sleep(1.0)

    def _commit(self, messages: Sequence[_Message[Any]]) -> list[Any]:
        """What each message's sender gets, after one transaction for all of them."""
        opens = _of(_Open, messages)
        closes = _of(_Close, messages)
        strikes = _of(_Strike, messages)
        admitted: dict[uuid.UUID, Admission] = {}
        with transaction(self._engine) as session:
            if opens or closes or strikes:
                room = _Room(session, self._run_id, self.price, self._budget)
                for strike in strikes:
                    room.strike(strike.calls)
                closes = room.standing(closes)
                for close in closes:
                    room.close(close.intent, close.outcome)
                admitted = {each.call: room.admit(each.intent) for each in opens}
                room.write()
                self._enter_ends(session, closes)
                self._enter(session, [each for each in opens if admitted[each.call] == "entered"])
            kept = _kept(session, [each.key for each in _of(_Recall, messages)])
            _keep(session, _of(_Remember, messages))
        return [
            admitted[message.call]
            if isinstance(message, _Open)
            else kept.get(message.key)
            if isinstance(message, _Recall)
            else None
            for message in messages
        ]

    def _enter(self, session: Session, opens: Sequence[_Open]) -> None:
        rows = [
            {
                "id": each.call,
                "run_id": self._run_id,
                "feature": each.intent.about.feature,
                "purpose": each.intent.about.purpose,
                "model": each.intent.model,
                "cost": most(each.intent, self.price),
            }
            for each in opens
        ]
        if rows:
            # A commit whose answer was lost is made again.
            session.execute(insert(JudgeCall).on_conflict_do_nothing(), rows)

    def _enter_ends(self, session: Session, closes: Sequence[_Close]) -> None:
        rows = []
        for close in closes:
            outcome = close.outcome
            prompt, cached, completion = outcome.tokens or (0, 0, 0)
            rows.append(
                {
                    "call": close.call,
                    "state": "answered" if outcome.answered else "failed",
                    "status": outcome.status,
                    "prompt_tokens": prompt,
                    "cached_tokens": cached,
                    "completion_tokens": completion,
                    "cost": outcome.cost(close.intent, self.price),
                }
            )
        if rows:
            table = cast(Table, JudgeCall.__table__)
            values: dict[str, Any] = {name: bindparam(name) for name in rows[0] if name != "call"}
            change = update(table).where(table.c.id == bindparam("call"))
            session.connection().execute(change.values(ended_at=func.now(), **values), rows)


class _Room:
    """What a run has spent, locked for one transaction."""

    def __init__(
        self, session: Session, run_id: uuid.UUID, price: PriceSpec, budget: float | None
    ) -> None:
        session.execute(insert(Spend).values(run_id=run_id).on_conflict_do_nothing())
        self._row = session.execute(
            select(Spend).where(Spend.run_id == run_id).with_for_update()
        ).scalar_one()
        self._session, self.price, self._budget = session, price, budget

    def close(self, intent: Intent, outcome: Outcome) -> None:
        row = self._row
        prompt, cached, completion = outcome.tokens or (0, 0, 0)
        row.prompt_tokens += prompt
        row.cached_tokens += cached
        row.completion_tokens += completion
        row.cost += outcome.cost(intent, self.price)
        row.reserved -= most(intent, self.price)

    def strike(self, calls: Sequence[str]) -> None:
        """Takes open calls out of the ledger; others of this run stand for them."""
        table = cast(Table, JudgeCall.__table__)
        deletion = delete(table).where(
            table.c.id.in_([call for call in map(_uuid, calls) if call is not None]),
            table.c.run_id == self._row.run_id,
            table.c.state == "sent",
        )
        for cost in self._session.execute(deletion.returning(table.c.cost)).scalars():
            self._row.calls -= 1
            self._row.reserved -= cost

    def standing(self, closes: Sequence[_Close]) -> list[_Close]:
        """Without those of struck calls: the worker that made them was not lost after all."""
        query = select(JudgeCall.id).where(JudgeCall.id.in_([each.call for each in closes]))
        known = set(self._session.execute(query).scalars()) if closes else set()
        return [each for each in closes if each.call in known]

    def admit(self, intent: Intent) -> Admission:
        cost = most(intent, self.price)
        if self._budget is not None:
            if self._row.cost + cost > self._budget:
                return "spent"
            if self._row.cost + self._row.reserved + cost > self._budget:
                return "wait"
        self._row.calls += 1
        self._row.reserved += cost
        return "entered"

    def write(self) -> None:
        self._row.reserved = max(0.0, self._row.reserved)  # rounding
        self._session.flush()


def _of(kind: type[M], messages: Sequence[_Message[Any]]) -> list[M]:
    return [each for each in messages if isinstance(each, kind)]


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _kept(session: Session, keys: Sequence[str]) -> dict[str, Answer]:
    if not keys:
        return {}
    query = select(JudgeAnswer.key, JudgeAnswer.answer).where(JudgeAnswer.key.in_(keys))
    return {row.key: row.answer for row in session.execute(query)}


def _keep(session: Session, answers: Sequence[_Remember]) -> None:
    rows = {each.key: {"key": each.key, "answer": storable(each.answer)} for each in answers}
    if rows:
        # In one order everywhere, so that two workers never wait for each other.
        ordered = [rows[key] for key in sorted(rows)]
        session.execute(insert(JudgeAnswer).on_conflict_do_nothing(), ordered)
