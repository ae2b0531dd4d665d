"""Questions that can wait: the Batch API of OpenAI and those that copy it, at about half the price.

Questions are gathered for a few seconds, uploaded as one file, and answered within a day; whoever
asked waits.  The endpoint itself remembers what was asked: a batch that a process left behind when
it died is found in the endpoint's list, and its answers go to whoever asks the same again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from monosemy.interp.judging.batch_state import MARK, BatchState, answer_of, id_of, objects
from monosemy.interp.judging.failures import (
    BadReply,
    CallFailed,
    EndpointError,
    NoAnswer,
    StatusError,
    Unanswered,
    may_pass,
)
from monosemy.interp.judging.ledger import Ledger
from monosemy.interp.judging.replies import Body
from monosemy.interp.judging.wire import Wire

log = logging.getLogger(__name__)

_ROUTE: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_WINDOW: Literal["24h"] = "24h"
_CANCEL_SECONDS = 3.0
_NO_ROUTE = {400, 404, 405, 422, 501}
_ENDED = {"completed", "failed", "expired", "cancelled"}
_VOID = {"failed", "cancelled", "cancelling"}
_BAD_LOOKS = 10
"""Looks after a batch that may bring nothing readable before its questions are given up."""
_LOOK_BACK, _LOOK_BACK_SECONDS = 1000, 48 * 3600
"""Batches of the endpoint's list that are searched for earlier questions, and their age."""


class NoBatches(EndpointError):
    """The endpoint has no Batch API."""


@dataclass(frozen=True)
class BatchLimits:
    """When a batch is sent and looked after; times in seconds."""

    quiet: float = 5.0
    """Without a further question for so long, those gathered are sent ..."""
    longest: float = 120.0
    """... and after so long in any case."""
    requests: int = 50_000
    """Most questions of one batch (OpenAI's limit)."""
    size: int = 190 * 2**20
    """Most bytes of one batch; OpenAI takes 200 MB."""
    first_look: float = 2.0
    """Until a batch is first asked after; half as long again each time ..."""
    rarest_look: float = 60.0
    """... up to this."""


@dataclass
class _Question:
    """``body`` as sent, and who waits for the answer."""

    id: str
    body: dict[str, Any]
    answer: asyncio.Future[Body]

    @property
    def line(self) -> bytes:
        request = {"custom_id": self.id, "method": "POST", "url": _ROUTE, "body": self.body}
        return json.dumps(request).encode() + b"\n"


@dataclass
class _Open:
    """A batch under way: its questions by id."""

    id: str
    questions: dict[str, _Question] = field(default_factory=dict)


class Batches:
    """One endpoint's batches; for one event loop.  Counts what waits in ``waiting``."""

    def __init__(
        self,
        wire: Wire,
        limits: BatchLimits,
        ledger: Ledger | None = None,
    ) -> None:
        """``ledger`` records calls of dead processes that this one takes over."""
        self.address, self.limits, self._ledger = wire.address, limits, ledger
        self._wire = wire
        self._gathered: list[_Question] = []
        self._size = 0
        self._first = self._last = 0.0
        self._sender: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()
        """Held while a batch is made."""
        self._watchers: set[asyncio.Task[None]] = set()
        self._open: dict[str, _Open] = {}
        self._mine: set[str] = set()
        self._looked_at: set[str] = set()
        self._asked_elsewhere: dict[str, tuple[str, str]] = {}
        """Key of a question asked by another process to (batch, id in it)."""
        self.waiting = 0

    async def look(self) -> None:
        """Whether there is a Batch API at all.  Raises ``NoBatches`` where there is none, and
        ``CallFailed``."""
        try:
            page = await self._wire.batches(limit=1)
        except StatusError as error:
            if error.status not in _NO_ROUTE:
                raise
            why = f"status {error.status}"
        except BadReply as error:
            why = str(error)  # some answer every address with a page
        else:
            if isinstance(page.get("data"), list):
                return
            why = "its list holds no batches"
        raise NoBatches(
            f"The endpoint at {self.address} has no Batch API ({why}).", "Leave judge.batch out."
        )

    async def ask(self, id_: str, body: dict[str, Any]) -> Body:
        """The answer, once its batch has ended.

        Raises ``StatusError`` as a call of its own would have, ``Unanswered`` where its batch ended
        without it, and another ``CallFailed`` where that is unknown.
        """
        question = _Question(id_, body, asyncio.get_running_loop().create_future())
        self._last = time.monotonic()
        if not self._gathered:
            self._first, self._size = self._last, 0
        self._gathered.append(question)
        self._size += len(question.line)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all())
        self.waiting += 1
        try:
            return await question.answer
        finally:
            self.waiting -= 1

    async def aclose(self) -> None:
        """Ends looking after batches; those under way go on at the endpoint, to be found again."""
        tasks = [*self._watchers, *([self._sender] if self._sender is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def withdraw(self) -> None:
        """Cancels the batches of this process whose answers no task awaits."""
        with suppress(TimeoutError):  # one may be there whose id is still on its way to us
            async with asyncio.timeout(_CANCEL_SECONDS), self._sending:
                pass
        for opened in list(self._open.values()):
            wanted = any(not question.answer.done() for question in opened.questions.values())
            if opened.id in self._mine and not wanted:
                try:
                    await self._wire.cancel_batch(opened.id, _CANCEL_SECONDS)
                except CallFailed as error:
                    log.warning("batch %s could not be cancelled: %s", opened.id, error)

    # ---------------------------------------------------------------- sending
    async def _send_all(self) -> None:
        while self._gathered:
            await asyncio.sleep(max(0.0, self._until() - time.monotonic()))
            if time.monotonic() < self._until():
                continue  # more has come meanwhile
            gathered, self._gathered = self._gathered, []
            gathered = [each for each in gathered if not each.answer.done()]
            try:
                left = await self._taken_over(gathered)
            except CallFailed as error:
                _fail(gathered, error)
                continue
            for part in _parts(left, self.limits):
                try:
                    async with self._sending:
                        await self._send(part)
                except CallFailed as error:
                    _fail(part, error)

    def _until(self) -> float:
        """When what is gathered is to be sent."""
        full = len(self._gathered) >= self.limits.requests or self._size >= self.limits.size
        if full:
            return 0.0
        return min(self._last + self.limits.quiet, self._first + self.limits.longest)

    async def _send(self, questions: list[_Question]) -> None:
        data = b"".join(question.line for question in questions)
        file = id_of(await self._wire.upload("monosemy.jsonl", data), "file")
        batch = await self._wire.create_batch(
            input_file_id=file, endpoint=_ROUTE, completion_window=_WINDOW, metadata=MARK
        )
        id_ = id_of(batch, "batch")
        log.info("batch %s: %d questions wait at %s", id_, len(questions), self.address)
        self._mine.add(id_)
        self._watch(_Open(id_, {question.id: question for question in questions}))

    # ---------------------------------------------------------------- those left behind
    async def _taken_over(self, questions: list[_Question]) -> list[_Question]:
        """Those that no batch of another process holds; the others wait for that one."""
        await self._look_back()
        left: list[_Question] = []
        waiting: dict[str, _Open] = {}
        for question in questions:
            # Once: a useless answer is not taken a second time.
            place = self._asked_elsewhere.pop(_key(question.body), None)
            if place is None:
                left.append(question)
            else:
                waiting.setdefault(place[0], _Open(place[0])).questions[place[1]] = question
        for opened in waiting.values():
            log.info("batch %s holds %d questions already", opened.id, len(opened.questions))
            self._watch(opened)
        if self._ledger is not None and waiting:
            await self._ledger.taken_over(
                [id_ for each in waiting.values() for id_ in each.questions]
            )
        return left

    async def _look_back(self) -> None:
        """Notes what batches of other processes hold.

        Raises ``CallFailed``: better to ask later than to pay twice.
        """
        async for batch in self._listed():
            known = batch.id in self._mine or batch.id in self._looked_at
            if known or not batch.ours or batch.status in _VOID or not batch.input:
                continue
            try:
                content = await self._wire.download(batch.input)
            except StatusError as error:
                if may_pass(error.status):
                    raise
                log.warning("batch %s cannot be looked into: %s", batch.id, error)
            else:
                for line in objects(content):
                    self._asked_elsewhere[_key(line.get("body"))] = (
                        batch.id,
                        str(line.get("custom_id")),
                    )
            self._looked_at.add(batch.id)

    async def _listed(self) -> AsyncIterator[BatchState]:
        """The batches of the endpoint's list, the newest first, as far back as is looked."""
        after: dict[str, str] = {}
        seen = 0
        # An endpoint that pages wrongly must not keep us for ever.
        while seen < _LOOK_BACK:
            page = await self._wire.batches(limit=100, **after)
            rows = page.get("data")
            for row in rows if isinstance(rows, list) else []:
                batch = BatchState(row)
                seen += 1
                if batch.created < time.time() - _LOOK_BACK_SECONDS or seen > _LOOK_BACK:
                    return
                if batch.id:
                    after = {"after": batch.id}
                    yield batch
            if page.get("has_more") is not True or not rows:
                return

    # ---------------------------------------------------------------- answers
    def _watch(self, opened: _Open) -> None:
        self._open[opened.id] = opened
        task = asyncio.create_task(self._follow(opened))
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)

    async def _follow(self, opened: _Open) -> None:
        """Follows a batch until it has ended, and hands out its answers."""
        pause, error, logged, bad = self.limits.first_look, "", 0, 0
        try:
            while True:
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, self.limits.rarest_look)
                try:
                    batch = BatchState(await self._wire.batch(opened.id))
                    done, total = batch.counts
                    if done > logged:
                        log.info("batch %s: %d of %d done", opened.id, done, total)
                        logged = done
                    if batch.status in _ENDED:
                        await self._hand_out(batch, opened)
                        left = list(opened.questions.values())
                        _fail(left, Unanswered(f"the batch is {batch.status}{batch.reasons}"))
                        break
                except StatusError as refused:
                    if refused.status < 500 and refused.status not in (408, 429):
                        error = f"the batch cannot be asked after: {refused}"
                        break
                except BadReply as odd:
                    bad += 1
                    if bad == _BAD_LOOKS:
                        error = f"the endpoint's description of the batch cannot be read: {odd}"
                        break
                except CallFailed:
                    continue  # away for a while: a batch takes hours
        except Exception as unforeseen:
            # This task is not awaited, but the askers of its questions are waiting.
            error = f"{type(unforeseen).__name__} while the batch was looked after"
            log.exception("batch %s: %s", opened.id, error)
        finally:
            self._open.pop(opened.id, None)
            _fail(list(opened.questions.values()), NoAnswer(error or "nobody waits any more", True))

    async def _hand_out(self, batch: BatchState, opened: _Open) -> None:
        for file in batch.files:
            for line in objects(await self._wire.download(file)):
                question = opened.questions.get(str(line.get("custom_id")))
                if question is not None and not question.answer.done():
                    try:
                        question.answer.set_result(answer_of(line, self._wire.redact))
                    except CallFailed as error:
                        question.answer.set_exception(error)


def _parts(questions: list[_Question], limits: BatchLimits) -> Iterator[list[_Question]]:
    """Cut so that no part has more questions or bytes than a batch may."""
    part: list[_Question] = []
    size = 0
    for question in questions:
        length = len(question.line)
        if part and (len(part) >= limits.requests or size + length > limits.size):
            yield part
            part, size = [], 0
        part.append(question)
        size += length
    if part:
        yield part


def _fail(questions: list[_Question], error: Exception) -> None:
    for question in questions:
        if not question.answer.done():
            question.answer.set_exception(error)


def _key(body: Any) -> str:
    """Equal for equal questions."""
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()
