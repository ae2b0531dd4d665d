"""A run's events as server-sent events, read from Postgres: any API replica can serve any run."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

from sqlalchemy import Engine

from monosemy.specs.rest.runs import RunEventMessage
from monosemy.specs.run_states import ENDED
from service.concurrency.places import Lane
from service.runs.queries import EventRow, family_events, state_of

POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
GRACE_SECONDS = 2.0
"""Ids are given out before commits: for so long an event may still turn up below a newer one."""
OLD_SECONDS = 60.0
"""No transaction that writes events lasts so long: what is older has settled already."""
BATCH = 500


class EventFeed:
    """Hands out each event of a run and of its children once, those that commit late included."""

    def __init__(self, engine: Engine, run_id: uuid.UUID, after: int = 0) -> None:
        self._engine = engine
        self._run_id = run_id
        self._floor = after
        self._given: dict[int, float] = {}
        """Ids above the floor that were given out, and when."""

    def poll(self) -> tuple[list[EventRow], bool]:
        """New events, ascending, and whether the run has ended and all of them were given out."""
        with self._engine.connect() as connection:
            # The state first: whoever set it wrote its event in the same transaction.
            state = state_of(connection, self._run_id)
            rows = family_events(connection, self._run_id, self._floor, BATCH)
        fresh = [row for row in rows if row.id not in self._given]
        full = len(rows) == BATCH
        self._settle(rows, stuck=full and not fresh)
        return fresh, (state is None or state in ENDED) and not full

    def _settle(self, rows: list[EventRow], stuck: bool) -> None:
        """Raises the floor to the newest event below which nothing can turn up any more."""
        now = time.monotonic()
        for row in rows:
            self._given.setdefault(row.id, now)
        settled = [
            row.id
            for row in rows
            if stuck or row.age > OLD_SECONDS or now - self._given[row.id] > GRACE_SECONDS
        ]
        self._floor = max(settled, default=self._floor)
        self._given = {id: when for id, when in self._given.items() if id > self._floor}


async def event_stream(
    engine: Engine,
    run_id: uuid.UUID,
    after: int,
    poll_seconds: float = POLL_SECONDS,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    lane: Lane | None = None,
) -> AsyncIterator[str]:
    """Server-sent events from the one after ``after`` to the run's last; comments keep it alive.

    ``lane``: threads for the looks into the database; one of its own unless given.
    """
    feed = EventFeed(engine, run_id, after)
    lane = lane or Lane(1)
    newest = after
    yield "retry: 2000\n\n"
    spoke = time.monotonic()
    while True:
        events, ended = await lane.run(feed.poll)
        for event in events:
            # One that committed late carries no id line, or resuming would go back behind it.
            yield format_event(event, with_id=event.id > newest)
            newest = max(newest, event.id)
        if ended:
            return
        now = time.monotonic()
        if events:
            spoke = now
        elif now - spoke >= heartbeat_seconds:
            yield ": alive\n\n"
            spoke = now
        if len(events) < BATCH:
            await asyncio.sleep(poll_seconds)


def format_event(event: EventRow, with_id: bool = True) -> str:
    message = RunEventMessage.model_validate(event, from_attributes=True)
    head = f"id: {event.id}\n" if with_id else ""
    return f"{head}event: {event.type}\ndata: {message.model_dump_json()}\n\n"
