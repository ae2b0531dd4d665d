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
from typing import Any, cast

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


@dataclass
class _Entry:
    """One thing to write or to read, and who waits for it."""

    kind: str
    value: Any
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
        self._waiting: list[_Entry] = []
        self._writer: asyncio.Task[None] | None = None
        self._under_way: dict[uuid.UUID, Intent] = {}

    async def open(self, intent: Intent) -> uuid.UUID:
        """Enters a call as sent.  Raises ``BudgetSpent``."""
        call = uuid.uuid4()
        waited = 0.0
        while (room := await self._ask("open", (call, intent))) != "entered":
            if room == "spent" or waited > self._patience:
                raise BudgetSpent(f"The budget of {self._budget:g} allows no further call.")
            await asyncio.sleep(0.1)
            waited += 0.1
        self._under_way[call] = intent
        return call

    async def close(self, call: uuid.UUID, outcome: Outcome) -> None:
        await self._ask("close", (call, self._under_way.pop(call), outcome))

    async def taken_over(self, calls: Sequence[str]) -> None:
        """Strikes calls of this run that others of it took the place of, as after a kill."""
        await self._ask("strike", calls)

    async def recall(self, key: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self._ask("recall", key)
        return found

    async def remember(self, key: str, answer: dict[str, Any]) -> None:
        await self._ask("remember", (key, answer))

    async def _ask(self, kind: str, value: Any) -> Any:
        entry = _Entry(kind, value, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all())
        return await entry.done

    async def _write_all(self) -> None:
        """Until nothing is waiting any more."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                results = await self._committed(batch)
            except Exception as error:
                for entry in batch:
                    if not entry.done.done():
                        entry.done.set_exception(error)
                continue
            for entry, result in zip(batch, results, strict=True):
                if not entry.done.done():  # its caller may have been cancelled
                    entry.done.set_result(result)

    async def _committed(self, batch: Sequence[_Entry]) -> list[Any]:
        while True:
            try:
                return await asyncio.to_thread(self._commit, batch)
            except Exception as error:
                if not is_passing(error):
                    raise
                logger.warning("the ledger waits for the database: %s", type(error).__name__)
                await asyncio.sleep(1.0)

    def _commit(self, batch: Sequence[_Entry]) -> list[Any]:
        by_kind: dict[str, list[Any]] = {}
        for entry in batch:
            by_kind.setdefault(entry.kind, []).append(entry.value)
        with transaction(self._engine) as session:
            closes = by_kind.get("close", [])
            if by_kind.keys() & {"open", "close", "strike"}:
                room = _Room(session, self._run_id, self.price, self._budget)
                for calls in by_kind.get("strike", []):
                    room.strike(calls)
                closes = room.standing(closes)
                for _, intent, outcome in closes:
                    room.close(intent, outcome)
                answers = [room.admit(intent) for _, intent in by_kind.get("open", [])]
                room.write()
                self._enter_ends(session, closes)
                self._enter(session, by_kind.get("open", []), answers)
            kept = _kept(session, by_kind.get("recall", []))
            _keep(session, by_kind.get("remember", []))
        opened = iter(answers if "open" in by_kind else [])
        return [
            next(opened)
            if entry.kind == "open"
            else kept.get(entry.value)
            if entry.kind == "recall"
            else None
            for entry in batch
        ]

    def _enter(
        self, session: Session, calls: Sequence[tuple[uuid.UUID, Intent]], answers: Sequence[str]
    ) -> None:
        rows = [
            {
                "id": call,
                "run_id": self._run_id,
                "feature": intent.about.feature,
                "purpose": intent.about.purpose,
                "model": intent.model,
                "cost": most(intent, self.price),
            }
            for (call, intent), answer in zip(calls, answers, strict=True)
            if answer == "entered"
        ]
        if rows:
            # A commit whose answer was lost is made again.
            session.execute(insert(JudgeCall).on_conflict_do_nothing(), rows)

    def _enter_ends(
        self, session: Session, ends: Sequence[tuple[uuid.UUID, Intent, Outcome]]
    ) -> None:
        rows = []
        for call, intent, outcome in ends:
            prompt, cached, completion = outcome.tokens or (0, 0, 0)
            rows.append(
                {
                    "call": call,
                    "state": "answered" if outcome.answered else "failed",
                    "status": outcome.status,
                    "prompt_tokens": prompt,
                    "cached_tokens": cached,
                    "completion_tokens": completion,
                    "cost": outcome.cost(intent, self.price),
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
        gone = delete(table).where(
            table.c.id.in_([call for call in map(_uuid, calls) if call is not None]),
            table.c.run_id == self._row.run_id,
            table.c.state == "sent",
        )
        for cost in self._session.execute(gone.returning(table.c.cost)).scalars():
            self._row.calls -= 1
            self._row.reserved -= cost

    def standing(
        self, ends: Sequence[tuple[uuid.UUID, Intent, Outcome]]
    ) -> list[tuple[uuid.UUID, Intent, Outcome]]:
        """Without those of struck calls: whoever made them was alive after all."""
        query = select(JudgeCall.id).where(JudgeCall.id.in_([call for call, _, _ in ends]))
        known = set(self._session.execute(query).scalars()) if ends else set()
        return [end for end in ends if end[0] in known]

    def admit(self, intent: Intent) -> str:
        """``entered``; ``wait``, as calls under way hold what it needs; or ``spent``."""
        asked = most(intent, self.price)
        if self._budget is not None:
            if self._row.cost + asked > self._budget:
                return "spent"
            if self._row.cost + self._row.reserved + asked > self._budget:
                return "wait"
        self._row.calls += 1
        self._row.reserved += asked
        return "entered"

    def write(self) -> None:
        self._row.reserved = max(0.0, self._row.reserved)  # rounding
        self._session.flush()


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _kept(session: Session, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    if not keys:
        return {}
    query = select(JudgeAnswer.key, JudgeAnswer.answer).where(JudgeAnswer.key.in_(keys))
    return {row.key: row.answer for row in session.execute(query)}


def _keep(session: Session, answers: Sequence[tuple[str, dict[str, Any]]]) -> None:
    rows = {key: {"key": key, "answer": storable(answer)} for key, answer in answers}
    if rows:
        # In one order everywhere, so that two workers never wait for each other.
        ordered = [rows[key] for key in sorted(rows)]
        session.execute(insert(JudgeAnswer).on_conflict_do_nothing(), ordered)
