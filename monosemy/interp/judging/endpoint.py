"""One OpenAI-compatible endpoint: its requests, and the abilities that it shows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monosemy.interp.judging.answers import Schema, object_schema
from monosemy.interp.judging.batches import Batches, NoBatches
from monosemy.interp.judging.calls import Calls, Limits, Request
from monosemy.interp.judging.dialect import Dialect, Format, Message
from monosemy.interp.judging.failures import (
    AnswerError,
    EndpointError,
    StatusError,
    TooLong,
)
from monosemy.interp.judging.ledger import Intent, Ledger
from monosemy.interp.judging.notices import Notices
from monosemy.interp.judging.pace import Pace
from monosemy.interp.judging.replies import (
    Body,
    Reply,
    first_choice,
    likeliest_of_first,
    models_of,
    read_reply,
    tokens_of,
)
from monosemy.interp.judging.room import Room
from monosemy.interp.judging.usage import Usage, most_tokens
from monosemy.interp.judging.wire import Wire

log = logging.getLogger(__name__)

__all__ = ["Endpoint", "Limits", "Message", "Question", "Reply"]

PROBE_ROOM = 256
"""Tokens for the answer to the question that finds out what the endpoint takes."""


@dataclass(frozen=True)
class Question:
    """What a chat call asks."""

    messages: Sequence[Message]
    schema: Schema
    """Of the answer."""
    name: str
    """Of the schema."""
    max_tokens: int
    """Longest answer."""
    temperature: float = 0.0
    seed: int = 0
    live: bool = False
    """Does not wait for a batch."""


class Endpoint:
    """A chat endpoint.  ``model`` None takes the only model that the endpoint lists.

    Bound to the event loop that first uses it; close it with ``aclose``.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        model: str | None,
        limits: Limits,
        pace: Pace,
        ledger: Ledger,
        batched: bool = False,
        bounded: bool = False,
    ) -> None:
        """``batched``: questions go through the Batch API, but for those that find out what the
        endpoint takes.  ``bounded``: a budget is to be kept, so no answer may be without a limit.
        """
        self._wire = Wire(base_url, api_key, limits.timeout)
        self.address = self._wire.address
        """The address without user and password, fit for logs and provenance."""
        self.limits = limits
        self.ledger = ledger
        self.notices = Notices()
        self.dialect = Dialect(self.address, bounded=bounded)
        self.room = Room()
        self.pace = pace
        self._calls = Calls(self.address, limits, pace, ledger, self.dialect, self.notices)
        self.model = model
        batches = Batches(self._wire, limits.batch, ledger)
        self.batches = batches if batched else None
        self.token_counts: bool | None = None
        """Whether answers say what they cost; None before the first."""
        self.answer_place = ""
        """Where the answers' text was found; empty before the first."""
        self.reasons_long = False
        """It was seen to fill its room with reasoning."""
        self._probing = asyncio.Lock()
        self._probed = False

    @property
    def model(self) -> str | None:
        return self._calls.model

    @model.setter
    def model(self, name: str | None) -> None:
        self._calls.model = name

    async def aclose(self) -> None:
        if self.batches is not None:
            await self.batches.aclose()
        await self.pace.aclose()
        await self._wire.aclose()

    async def chat(self, question: Question, usage: Usage) -> Reply:
        """One answer, after as many attempts as ``limits`` allow.  Raises ``JudgeError``."""
        await self.probe(usage)
        return await self._adapting_call(question, usage)

    async def complete(self, prompt: str, usage: Usage, **sent: Any) -> Body:
        """The body of one answer of ``/completions``, with fields outside the protocol.  It holds
        a choice.

        Raises ``JudgeError``, also for what the endpoint does not understand.
        """
        model = await self._model(usage)
        intent = Intent(model, most_tokens(prompt), sent.get("max_tokens", 16))
        asked = {"model": model, "prompt": prompt, "temperature": 0.0, **sent}
        if "temperature" in self.dialect.left_out:
            del asked["temperature"]
        request: Request = lambda headers: self._wire.complete(asked, headers)  # noqa: E731
        try:
            return await self._calls.entered(intent, request, _with_choice, usage)
        except StatusError as error:
            raise AnswerError(f"The judge refused the request ({error}).", usage) from None

    def needs_room(self, room: int) -> None:
        """Notes that an answer came with so many tokens, and with fewer did not: all questions get
        them from now on, or each would be asked twice."""
        if self.room.enough(room):
            self.notices.tell(
                "room",
                f"the judge at {self.address} reasons longer than its answers may be: they get "
                f"{room} tokens from now on (judge.max_output_tokens sets that)",
            )

    # ---------------------------------------------------------------- capabilities
    async def probe(self, usage: Usage) -> None:
        """Finds out, once, the model's name and which ``response_format`` is honoured."""
        async with self._probing:
            if self._probed:
                return
            model = await self._model(usage)
            before = self.dialect.copy()
            try:
                await self._find_format(usage)
            except AnswerError:
                self.dialect.become(before)  # it was another fault than the format's
                raise
            if self.batches is not None:
                await self._calls.repeated(self.batches.look, usage)
            self._probed = True
            log.info("judge %s at %s answers in %s", model, self.address, self.dialect.format)

    async def _find_format(self, usage: Usage) -> None:
        schema = object_schema({"colour": {"type": "string", "minLength": 3}})
        question = Question(_PROBE, schema, "probe", max_tokens=PROBE_ROOM)
        while True:
            tried = self.dialect.format
            reply = await self._adapting_call(question, usage)
            if self.dialect.format == tried:
                if tried == "text" or _honoured(reply, tried):
                    break
                self.dialect.lower_format("ignores it")

    async def ask_anew(self, usage: Usage) -> None:
        """Asks once as it is asked again after a useless answer: with a seed and a temperature, of
        which ``dialect`` learns whether they are taken.  Raises ``JudgeError``."""
        schema = object_schema({"colour": {"type": "string"}})
        await self.chat(Question(_PROBE, schema, "probe", PROBE_ROOM, 0.7, 1, live=True), usage)

    async def answer_logprobs(self, usage: Usage) -> tuple[bool, str]:
        """Whether answers come with log probabilities, and how or why not."""
        asked = {
            "model": await self._model(usage),
            "messages": self.dialect.messages(_PROBE),
            "logprobs": True,
            "top_logprobs": 5,
            **self.dialect.limit(1),
        }
        intent = Intent(str(asked["model"]), most_tokens(str(_PROBE)), 1)
        try:
            count = await self._calls.entered(intent, self._live(asked), likeliest_of_first, usage)
        except StatusError as error:
            return False, str(error)
        if not count:
            return False, "answers come without them"
        return True, f"the {count} likeliest of each token"

    async def has_batches(self) -> tuple[bool, str]:
        """Whether there is a Batch API, and how or why not."""
        batches = self.batches or Batches(self._wire, self.limits.batch)
        try:
            await self._calls.repeated(batches.look, Usage())
        except NoBatches as error:
            return False, error.message
        except StatusError as error:
            return False, str(error)
        return True, "its list of batches can be read"

    async def _model(self, usage: Usage) -> str:
        """The model's name; the endpoint's only one where none is named."""
        if self.model is None:
            name_one = "Name one: judge.model in the spec, or MONOSEMY_JUDGE_MODEL."
            try:
                names = models_of(await self._calls.repeated(self._wire.models, usage))
            except (StatusError, AnswerError) as error:
                raise EndpointError(
                    f"The judge at {self.address} lists no models ({error}).", name_one
                ) from None
            if len(names) != 1:
                raise EndpointError(
                    f"The endpoint at {self.address} lists {len(names)} models.", name_one
                )
            self.model = names[0]
        return self.model

    # ---------------------------------------------------------------- calls
    async def _adapting_call(self, question: Question, usage: Usage) -> Reply:
        """Asks, otherwise each time that the endpoint refuses how it was asked."""
        while True:
            messages = self.dialect.messages(question.messages)
            sent = self.dialect.parameters(
                question.schema,
                question.name,
                question.max_tokens,
                question.temperature,
                question.seed,
            )
            try:
                return await self._one_reply(question, messages, sent, usage)
            except StatusError as error:
                learned = self.dialect.learn(error.reason, sent, messages, probing=not self._probed)
                if learned is None:
                    kind = TooLong if self.dialect.too_long(error.reason) else AnswerError
                    raise kind(f"The judge refused the request ({error}).", usage) from None
                self.notices.tell(learned, f"the judge at {self.address} {learned} ({error})")
                usage.retries += 1

    async def _one_reply(
        self,
        question: Question,
        messages: list[Message],
        sent: Mapping[str, Any],
        usage: Usage,
    ) -> Reply:
        most = sum(most_tokens(message["content"]) for message in messages)
        intent = Intent(self.model or "", most, question.max_tokens)
        asked = {"model": self.model or "", "messages": messages, **sent}
        batched = self.batches is not None and self._probed and not question.live
        request = self._in_batch(asked) if batched else self._live(asked)
        reply = await self._calls.entered(intent, request, self._read, usage, paced=not batched)
        self.reasons_long |= reply.out_of_room and question.max_tokens >= PROBE_ROOM
        self.answer_place = reply.place if reply.text.strip() else self.answer_place
        return reply

    def _read(self, body: Body) -> Reply:
        self.token_counts = tokens_of(body) is not None
        return read_reply(body, self._wire.redact)

    def _live(self, asked: dict[str, Any]) -> Request:
        return lambda headers: self._wire.chat(asked, headers)

    def _in_batch(self, asked: dict[str, Any]) -> Request:
        assert self.batches is not None
        batches = self.batches
        return lambda headers: batches.ask(headers["X-Request-Id"], asked)


_PROBE: list[Message] = [
    {"role": "system", "content": "Answer in JSON."},
    {"role": "user", "content": "Which colour is the sky by day?"},
]


def _honoured(reply: Reply, asked: Format) -> bool:
    if reply.out_of_room:
        return True  # a model that thinks first ran out of room: no sign of either
    value = reply.object()
    if value is None or not reply.text.lstrip().startswith("{"):
        return False
    return asked == "json_object" or isinstance(value.get("colour"), str)


def _with_choice(body: Body) -> Body:
    first_choice(body)
    return body
