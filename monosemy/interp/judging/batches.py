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
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import openai
from openai.types import Batch
from openai.types.chat import ChatCompletion

from monosemy.interp.judging.books import Books
from monosemy.interp.judging.failures import EndpointError, may_pass

log = logging.getLogger(__name__)

_MARK = {"made_by": "monosemy"}
"""Metadata of our batches."""
_ROUTE: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_WINDOW: Literal["24h"] = "24h"
_CANCEL_SECONDS = 3.0
_NO_ROUTE = {400, 404, 405, 422, 501}
_ENDED = {"completed", "failed", "expired", "cancelled"}
_VOID = {"failed", "cancelled", "cancelling"}
_LOOK_BACK, _LOOK_BACK_SECONDS = 1000, 48 * 3600
"""Batches of the endpoint's list that are looked into for questions asked before, and their age."""


class NoBatches(EndpointError):
    """The endpoint has no Batch API."""


class Unanswered(ValueError):
    """A batch ended without coming to a question, which has cost nothing and may be asked again."""


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
    answer: asyncio.Future[ChatCompletion]

    @property
    def line(self) -> bytes:
        told = {"custom_id": self.id, "method": "POST", "url": _ROUTE, "body": self.body}
        return json.dumps(told).encode() + b"\n"


@dataclass
class _Open:
    """A batch under way: its questions by id."""

    id: str
    questions: dict[str, _Question] = field(default_factory=dict)


class Batches:
    """One endpoint's batches; for one event loop.  Counts what waits in ``waiting``."""

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        address: str,
        limits: BatchLimits,
        books: Books | None = None,
    ) -> None:
        """``books`` are told of calls of dead processes whose answers others wait for now."""
        self.address, self.limits, self._books = address, limits, books
        self._client = client
        self._gathered: list[_Question] = []
        self._size = 0
        self._first = self._last = 0.0
        self._sender: asyncio.Task[None] | None = None
        self._watchers: set[asyncio.Task[None]] = set()
        self._open: dict[str, _Open] = {}
        self._mine: set[str] = set()
        self._looked_at: set[str] = set()
        self._found: dict[str, tuple[str, str]] = {}
        """Key of a question asked by another process to (batch, id in it)."""
        self.waiting = 0

    async def look(self) -> None:
        """Whether there is a Batch API at all.  Raises ``NoBatches`` where there is none, and what
        the client raises."""
        try:
            await self._client.batches.list(limit=1)
        except openai.APIStatusError as error:
            if error.status_code not in _NO_ROUTE:
                raise
            raise NoBatches(
                f"The endpoint at {self.address} has no Batch API (status {error.status_code}).",
                "Leave judge.batch out.",
            ) from None

    async def ask(self, id_: str, body: dict[str, Any]) -> ChatCompletion:
        """The answer, once its batch has ended.

        Raises ``openai.APIStatusError`` as a call of its own would have, ``Unanswered`` where its
        batch ended without it, and ``ValueError`` where nobody knows.
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
        """Cancels the batches of this process that nobody waits for any more."""
        for opened in list(self._open.values()):
            wanted = any(not question.answer.done() for question in opened.questions.values())
            if opened.id in self._mine and not wanted:
                try:
                    await self._client.batches.cancel(opened.id, timeout=_CANCEL_SECONDS)
                except openai.APIError as error:
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
                left = await self._found_again(gathered)
            except (openai.APIError, ValueError) as error:
                _fail(gathered, error)
                continue
            for part in _parts(left, self.limits):
                try:
                    await self._send(part)
                except (openai.APIError, ValueError) as error:
                    _fail(part, error)

    def _until(self) -> float:
        """When what is gathered is to be sent."""
        full = len(self._gathered) >= self.limits.requests or self._size >= self.limits.size
        if full:
            return 0.0
        return min(self._last + self.limits.quiet, self._first + self.limits.longest)

    async def _send(self, questions: list[_Question]) -> None:
        data = b"".join(question.line for question in questions)
        file = await self._client.files.create(file=("monosemy.jsonl", data), purpose="batch")
        batch = await self._client.batches.create(
            input_file_id=file.id, endpoint=_ROUTE, completion_window=_WINDOW, metadata=_MARK
        )
        log.info("batch %s: %d questions wait at %s", batch.id, len(questions), self.address)
        self._mine.add(batch.id)
        self._watch(_Open(batch.id, {question.id: question for question in questions}))

    # ---------------------------------------------------------------- those left behind
    async def _found_again(self, questions: list[_Question]) -> list[_Question]:
        """Those that no batch of another process holds; the others wait for that one."""
        await self._look_back()
        left: list[_Question] = []
        waiting: dict[str, _Open] = {}
        for question in questions:
            # Once: an answer that was of no use is not taken a second time.
            place = self._found.pop(_key(question.body), None)
            if place is None:
                left.append(question)
            else:
                waiting.setdefault(place[0], _Open(place[0])).questions[place[1]] = question
        for opened in waiting.values():
            log.info("batch %s holds %d questions already", opened.id, len(opened.questions))
            self._watch(opened)
        if self._books is not None and waiting:
            await self._books.taken_over(
                [id_ for each in waiting.values() for id_ in each.questions]
            )
        return left

    async def _look_back(self) -> None:
        """Notes what batches of other processes hold.

        Raises what the client raises: better to ask later than to pay twice.
        """
        seen = 0
        async for batch in self._client.batches.list(limit=100):
            seen += 1
            # The newest come first; an endpoint that pages wrongly must not keep us for ever.
            if batch.created_at < time.time() - _LOOK_BACK_SECONDS or seen > _LOOK_BACK:
                break
            known = batch.id in self._mine or batch.id in self._looked_at
            ours = (batch.metadata or {}).items() >= _MARK.items()
            if known or not ours or batch.status in _VOID:
                continue
            try:
                content = await self._client.files.content(batch.input_file_id)
            except openai.APIStatusError as error:
                if may_pass(error.status_code):
                    raise
                log.warning("batch %s cannot be looked into: %s", batch.id, error)
            else:
                for line in _objects(content.content):
                    self._found[_key(line.get("body"))] = (batch.id, str(line.get("custom_id")))
            self._looked_at.add(batch.id)

    # ---------------------------------------------------------------- answers
    def _watch(self, opened: _Open) -> None:
        self._open[opened.id] = opened
        task = asyncio.create_task(self._follow(opened))
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)

    async def _follow(self, opened: _Open) -> None:
        """Looks after a batch until it has ended, and hands its answers out."""
        pause, error, told = self.limits.first_look, "", 0
        try:
            while True:
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, self.limits.rarest_look)
                try:
                    batch = await self._client.batches.retrieve(opened.id)
                    told = _tell(batch, told)
                    if batch.status in _ENDED:
                        await self._hand_out(batch, opened)
                        left = list(opened.questions.values())
                        _fail(left, Unanswered(f"the batch is {batch.status}{_reasons(batch)}"))
                        break
                except openai.APIStatusError as refused:
                    if refused.status_code < 500 and refused.status_code not in (408, 429):
                        error = f"the batch cannot be asked after: {refused}"
                        break
                except openai.APIConnectionError:
                    continue  # away for a while: a batch takes hours
        finally:
            self._open.pop(opened.id, None)
            _fail(list(opened.questions.values()), ValueError(error or "nobody waits any more"))

    async def _hand_out(self, batch: Batch, opened: _Open) -> None:
        for file in (batch.output_file_id, batch.error_file_id):
            if not file:
                continue
            content = await self._client.files.content(file)
            for line in _objects(content.content):
                question = opened.questions.get(str(line.get("custom_id")))
                if question is not None and not question.answer.done():
                    _answer(question, line, content.response)


def _answer(question: _Question, line: dict[str, Any], fetched: Any) -> None:
    """Gives a question the answer that its line of an output file holds, or its failure.

    ``fetched`` is the HTTP response that the line came in.
    """
    response = line.get("response") or {}
    status, body = response.get("status_code"), response.get("body")
    try:
        if not isinstance(status, int):
            raise Unanswered(f"no answer in the batch: {line.get('error')}")
        if status >= 300:
            # As the client would have raised it for a call of its own.
            refused = type(fetched)(status, request=fetched.request)
            raise openai.APIStatusError(
                f"Error code: {status} - {body}", response=refused, body=body
            )
        question.answer.set_result(ChatCompletion.model_validate(body))
    except (openai.APIStatusError, ValueError) as error:
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


def _objects(data: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file of lines; other lines are passed over."""
    for line in data.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def _tell(batch: Batch, told: int) -> int:
    """Logs how many questions are done where they are more than last told; how many."""
    counts = batch.request_counts
    done = (counts.completed + counts.failed) if counts else 0
    if counts and done > told:
        log.info("batch %s: %d of %d done", batch.id, done, counts.total)
    return max(done, told)


def _reasons(batch: Batch) -> str:
    told = [item.message for item in (batch.errors.data if batch.errors else None) or []]
    return f" ({'; '.join(str(each) for each in told[:3])})" if told else ""
