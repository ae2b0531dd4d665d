"""Many workers on the features of one run: one leads, the others help, each may be lost.

The leader holds the run's lease (``worker``), plans the features and waits for the last of them.
Everybody, leader or helper, leases a few features at a time, works on them and writes result and
state in one transaction.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from monosemy.errors import DataError, Interrupted, JudgeError, Stopped
from monosemy.interp.judging.failures import EndpointError, JudgeAway
from monosemy.interp.judging.ledger import BudgetSpent
from service.database.session import transaction
from workers import work_items
from workers.failures import is_passing
from workers.work_items import Item

logger = logging.getLogger(__name__)

T = TypeVar("T")

Store = Callable[[Session], None]
"""Writes the result of one feature."""

Tell = Callable[[str], None]
"""Takes a sentence for the run's events."""

Work = Callable[[Item], Awaitable[Store]]
"""Does one feature.  Raises ``JudgeError`` or ``DataError`` for one that cannot be done."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds without new work while the judge is away; doubled from the first to the longest."""

_PATIENCE = 1800.0
"""Seconds that a judge may be away before the run is given up."""

_TELL_EVERY = 300.0
"""Seconds between two events about one absence."""

_PAUSE = 0.2
"""Seconds between two looks for features that others may have dropped."""


def _to_nobody(text: str) -> None:
    del text


class RunEnded(Exception):
    """The run is not running any more: its helpers stop."""


@dataclass(frozen=True)
class Share:
    """What one worker takes of a run."""

    engine: Engine
    run_id: uuid.UUID
    owner: str
    lease_seconds: float
    at_once: int
    """Features under way at once."""


class Absence:
    """How long the judge has been away, and when to try it again.

    ``tell`` gets a message at its beginning, at its end, and every few minutes between them.
    """

    def __init__(self, tell: Tell = _to_nobody) -> None:
        self._since: float | None = None
        self._pause = _FIRST_PAUSE
        self._until = 0.0
        self._tell = tell
        self._told = -math.inf

    def begins(self, away: JudgeAway) -> JudgeAway | None:
        """Notes a failed call; returns what ends the run once that has gone on for too long."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if now >= self._until:  # of the many calls that fail together the first sets the pause
            self._until = now + max(self._pause, away.wait or 0.0)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            logger.warning("the judge is away: %s", away)
            if now - self._told > _TELL_EVERY:
                self._told = now
                left = max(0.0, _PATIENCE - (now - self._since))
                self._tell(
                    f"the judge is away; it is tried again in {self._until - now:.0f} s, and given "
                    f"up after {left / 60:.0f} min: {away}"
                )
        return away if now - self._since > _PATIENCE else None

    def ends(self) -> None:
        if self._since is not None:
            self._tell(f"the judge is back after {time.monotonic() - self._since:.0f} s")
        self._since, self._pause, self._told = None, _FIRST_PAUSE, -math.inf

    def lasts(self) -> bool:
        return time.monotonic() < self._until


class SharedRun:
    """One worker's part in a run."""

    def __init__(
        self,
        share: Share,
        work: Work,
        check: Callable[[], None],
        leave: Callable[[], bool] = lambda: False,
        tell: Tell = _to_nobody,
    ) -> None:
        """``check`` raises when this worker is to stop; once ``leave`` says so, it ends what is
        under way and begins nothing more.  ``tell`` hears, from the event loop, of a judge that is
        away."""
        self._share, self._work, self._check, self._leave = share, work, check, leave
        self._under_way: set[asyncio.Task[None]] = set()
        self._claimed: list[Item] = []
        self._fatal: Exception | None = None
        self._absence = Absence(tell)

    async def help(self) -> int:
        """Works until nothing is free or the run has ended; the number of features it did."""
        try:
            return await self._take_part(wait_for_others=False)
        except RunEnded:
            return 0

    async def lead(self) -> int:
        """Works until every feature has ended, whoever did it; the number it did itself."""
        try:
            return await self._take_part(wait_for_others=True)
        except RunEnded:
            await asyncio.sleep(self._share.lease_seconds / 3)  # the lease hears of it as well
            self._check()
            raise Interrupted from None

    async def _take_part(self, wait_for_others: bool) -> int:
        keeper = asyncio.create_task(self._keep_leases())
        ended = 0
        try:
            while True:
                self._check()
                if keeper.done():
                    keeper.result()
                if self._fatal is not None:
                    raise self._fatal
                if not self._leave() and not self._absence.lasts():
                    await self._start_some()
                if self._under_way:
                    done, _ = await asyncio.wait(
                        self._under_way, timeout=_PAUSE, return_when=asyncio.FIRST_COMPLETED
                    )
                    ended += len(done)
                elif not wait_for_others or not await self._others_at_work():
                    return ended
                else:
                    await asyncio.sleep(_PAUSE)
        finally:
            keeper.cancel()
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(keeper, *self._under_way, return_exceptions=True)
            await self._in_database(
                lambda session: work_items.give_back(session, self._share.run_id, self._share.owner)
            )

    async def _start_some(self) -> None:
        share = self._share
        room = share.at_once - len(self._under_way)
        if len(self._claimed) < room:
            # A few ahead, so that nobody waits for the database between two features.
            wanted = room - len(self._claimed) + share.at_once // 4
            self._claimed += await self._in_database(
                lambda session: work_items.claim(
                    session, share.run_id, share.owner, wanted, share.lease_seconds
                )
            )
        while self._claimed and len(self._under_way) < self._share.at_once:
            task = asyncio.create_task(self._one(self._claimed.pop(0)))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _one(self, item: Item) -> None:
        error: str | None = None
        store: Store | None = None
        try:
            store = await self._work(item)
        except (EndpointError, BudgetSpent, Stopped) as fatal:
            self._fatal = self._fatal or fatal
            return
        except JudgeAway as away:
            # The feature is not at fault: it is done when the judge is back.
            self._fatal = self._fatal or self._absence.begins(away)
            await self._in_database(
                lambda session: work_items.give_back(
                    session, self._share.run_id, self._share.owner, item.feature
                )
            )
            return
        except (JudgeError, DataError) as refused:
            error = str(refused)
            logger.info("feature %d failed: %s", item.feature, error)
        except Exception as broken:  # nobody awaits this task's result but the loop above
            self._fatal = self._fatal or broken
            return

        self._absence.ends()

        def write(session: Session) -> None:
            ours = work_items.finish(
                session, self._share.run_id, item.feature, self._share.owner, error
            )
            if ours and store is not None:
                store(session)

        try:
            await self._in_database(write)
        except Exception as broken:
            self._fatal = self._fatal or broken

    async def _others_at_work(self) -> bool:
        counts = await self._in_database(
            lambda session: work_items.counts(session, self._share.run_id)
        )
        return counts.open > 0

    async def _keep_leases(self) -> None:
        share = self._share
        while True:
            await asyncio.sleep(min(share.lease_seconds / 3, 2.0))
            state = await self._in_database(
                lambda session: work_items.renew(
                    session, share.run_id, share.owner, share.lease_seconds
                )
            )
            if state != "running":
                raise RunEnded

    async def _in_database(self, change: Callable[[Session], T]) -> T:
        """In a thread; waits for a database that is away, as long as this worker may work."""

        def once() -> T:
            with transaction(self._share.engine) as session:
                return change(session)

        while True:
            try:
                return await asyncio.to_thread(once)
            except Exception as error:
                if not is_passing(error):
                    raise
                logger.warning("waiting for the database: %s", type(error).__name__)
                self._check()
                await asyncio.sleep(1.0)
