"""The judge: an LLM asked for JSON answers, each of which is checked before it is believed."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from monosemy.interp.judging.answers import (
    Schema,
    check_object,
    problem_with,
    salvage_object,
)
from monosemy.interp.judging.attempts import Attempts
from monosemy.interp.judging.endpoint import Endpoint, Limits, Message, Question, Reply
from monosemy.interp.judging.failures import AnswerError, TooLong
from monosemy.interp.judging.ledger import Ledger, MemoryLedger
from monosemy.interp.judging.pace import LocalPace, Pace
from monosemy.interp.judging.prompt_logprobs import PromptLogprobs
from monosemy.interp.judging.usage import Usage
from monosemy.specs.parts import JudgeSpec

Accept = Callable[[dict[str, Any]], str | None]
"""Looks at a well-formed answer; returns why it is useless, or None."""


class Judge:
    """A client of one OpenAI-compatible endpoint; use it as ``async with Judge(...) as judge``.

    ``spec.model`` goes before ``model``; if both are None the endpoint must list exactly one.
    ``usage`` counts all calls so far, the capability probe and failed items included.
    Errors: ``AnswerError`` concerns one item, ``EndpointError`` all of them.  Neither they nor the
    log ever hold the key.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        model: str | None,
        spec: JudgeSpec,
        limits: Limits | None = None,
        ledger: Ledger | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.spec = spec
        self.usage = Usage()
        price = spec.price.of_batches() if spec.price and spec.batch else spec.price
        self.ledger = ledger or MemoryLedger(price, spec.budget)
        self._endpoint = Endpoint(
            base_url,
            api_key,
            spec.model or model,
            limits or Limits(),
            pace or LocalPace(spec.concurrency),
            self.ledger,
            spec.batch,
            bounded=spec.budget is not None,
        )
        self._under_way: dict[str, asyncio.Event] = {}
        self.prompt_logprobs = PromptLogprobs(self._endpoint, self.usage)
        """What the judge expects at each place of a prompt, where the endpoint tells."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._endpoint.aclose()

    async def answer_format(self) -> str:
        """How the endpoint holds its answers to a shape: ``json_schema``, ``json_object`` or
        ``text``.  Raises ``JudgeError`` where it cannot be used at all."""
        usage = Usage()
        try:
            await self._endpoint.probe(usage)
        finally:
            self.usage.add(usage)
        return self._endpoint.dialect.format

    async def answer_logprobs(self) -> tuple[bool, str]:
        """Whether answers come with log probabilities, and how or why not."""
        usage = Usage()
        try:
            return await self._endpoint.answer_logprobs(usage)
        finally:
            self.usage.add(usage)

    async def ask_anew(self) -> None:
        """Asks once as after a useless answer, with a seed and a temperature, so that it is known
        what of it the endpoint refuses (``provenance()["dialect"]``).  Raises ``JudgeError``."""
        usage = Usage()
        try:
            await self._endpoint.ask_anew(usage)
        finally:
            self.usage.add(usage)

    async def has_batches(self) -> tuple[bool, str]:
        """Whether there is a Batch API, and how or why not."""
        return await self._endpoint.has_batches()

    def report_to(self, listener: Callable[[str], None] | None) -> None:
        """Has ``listener`` called, from the event loop, with what a person should hear of while
        work goes on: long waits, and what the endpoint refuses.  It must not block."""
        self._endpoint.notices.listener = listener

    @property
    def answer_place(self) -> str:
        """The field in which answers were found (``content``, ``reasoning_content``); empty before
        the first."""
        return self._endpoint.answer_place

    @property
    def token_counts(self) -> bool | None:
        """Whether answers say what they cost; None before the first."""
        return self._endpoint.token_counts

    @property
    def reasons_long(self) -> bool:
        """Whether it was seen to fill the room of an answer with reasoning."""
        return self._endpoint.reasons_long

    @property
    def in_batches(self) -> int:
        """Questions that wait in batches."""
        batches = self._endpoint.batches
        return batches.waiting if batches is not None else 0

    async def withdraw(self) -> None:
        """Cancels the batches that no task awaits: the work has ended or is given up."""
        if self._endpoint.batches is not None:
            await self._endpoint.batches.withdraw()

    @property
    def model(self) -> str:
        """The model's name; empty before the first call where the endpoint is to choose."""
        return self._endpoint.model or ""

    def provenance(self) -> dict[str, Any]:
        """Who judged: model, address without credentials, sampling, answer format, and what of the
        request the endpoint did not take."""
        dialect = self._endpoint.dialect.as_dict()
        room = self._endpoint.room.least
        return {
            "model": self.model,
            "address": self._endpoint.address,
            "temperature": self.spec.temperature,
            "max_output_tokens": self.spec.max_output_tokens,
            "format": self._endpoint.dialect.format,
            **({"dialect": dialect} if dialect else {}),
            **({"reasoning_room": room} if room else {}),
        }

    async def complete_json(
        self,
        messages: Sequence[Message],
        schema: Schema,
        *,
        name: str = "answer",
        accept: Accept | None = None,
        partial: bool = False,
        tries: int = 2,
        max_tokens: int | None = None,
    ) -> tuple[dict[str, Any], Usage]:
        """An answer that fits ``schema`` (and ``accept``), with what it cost.

        An answer that was cut off is asked for again with more room, a refused or malformed one at
        a higher temperature, ``tries`` times in all (once more for a judge that reasons through all
        its room); then ``AnswerError``.  ``partial``
        takes the well-formed part of an answer (at least one property) instead.  ``max_tokens`` is
        for answers that are long by their nature; None takes the spec's.

        A question that was answered before, by this judge or with the same ``ledger``, is not asked
        again; the same question asked twice at once is asked once.
        """
        usage = Usage()
        await self._endpoint.probe(usage)
        key = self._key(messages, schema)
        while key in self._under_way:  # asked by another task; if that fails, asked here
            await self._under_way[key].wait()
        recalled = await self.ledger.recall(key)
        if recalled is not None and _fits(recalled, schema, accept):
            usage.reused += 1
            self.usage.add(usage)
            return recalled, usage
        ended = self._under_way[key] = asyncio.Event()
        try:
            value, whole = await self._ask(
                messages,
                schema,
                name,
                accept,
                partial,
                tries,
                max_tokens or self.spec.max_output_tokens,
                usage,
            )
            if whole:
                await self.ledger.remember(key, value)
            return value, usage
        finally:
            del self._under_way[key]
            ended.set()

    async def weigh(self, messages: Sequence[Message], schema: Schema) -> int:
        """How many tokens the endpoint counts for this prompt; 0 where it does not say.

        It is sent, with room for an answer of one token.  Raises ``JudgeError``.
        """
        usage = Usage()
        try:
            await self._endpoint.probe(usage)
            before = usage.prompt_tokens
            temperature = self.spec.temperature
            question = Question(messages, schema, "answer", 1, temperature, live=True)
            await self._endpoint.chat(question, usage)
            return usage.prompt_tokens - before
        finally:
            self.usage.add(usage)

    def _key(self, messages: Sequence[Message], schema: Schema) -> str:
        asked = [dict(message) for message in messages]
        sampling = [self.spec.temperature, self.spec.max_output_tokens]
        whole = [self._endpoint.address, self.model, sampling, dict(schema), asked]
        return hashlib.blake2b(json.dumps(whole).encode(), digest_size=16).hexdigest()

    async def _ask(
        self,
        messages: Sequence[Message],
        schema: Schema,
        name: str,
        accept: Accept | None,
        partial: bool,
        tries: int,
        room: int,
        usage: Usage,
    ) -> tuple[dict[str, Any], bool]:
        """The answer, and whether it is whole."""
        attempts = Attempts(self._endpoint.room, room, self.spec.temperature, tries)
        fault, cut = "", False
        best: dict[str, Any] = {}
        try:
            while not attempts.over:
                usage.retries += attempts.number > 0
                attempts.begin()
                question = Question(
                    messages, schema, name, attempts.room, attempts.temperature, attempts.number
                )
                try:
                    reply = await self._endpoint.chat(question, usage)
                except TooLong:
                    if attempts.after_refusal():
                        continue
                    raise
                value, fault = _read(reply, schema, accept)
                cut = reply.finish == "length"
                if value is not None:
                    if attempts.wanted_room:
                        self._endpoint.needs_room(attempts.room)
                    return value, True
                if partial:
                    best = {**salvage_object(reply.text, schema, cut), **best}
                    if best and not cut:
                        break
                attempts.after(reply)
            if best:
                return best, False
            raise AnswerError(
                f"The judge gave no usable answer: {fault}.", advice=_MORE_ROOM if cut else None
            )
        except AnswerError as error:
            usage.failures += 1
            error.usage = usage
            raise
        finally:
            self.usage.add(usage)


_MORE_ROOM = "Raise judge.max_output_tokens, or have the model reason less."


def _fits(value: dict[str, Any], schema: Schema, accept: Accept | None) -> bool:
    return not check_object(value, schema) and not (accept and accept(value))


def _read(reply: Reply, schema: Schema, accept: Accept | None) -> tuple[dict[str, Any] | None, str]:
    """The checked answer, or None and why it is useless."""
    if reply.finish in ("refusal", "content_filter"):
        return None, "it refused"
    value = reply.object()
    if value is None or (faults := check_object(value, schema)):
        if reply.out_of_room:
            return None, "it was cut off while it was reasoning"
        if reply.finish == "length":
            return None, "it was cut off"
        return None, "it holds no JSON object" if value is None else "; ".join(faults)
    fits = {k: part for k, part in schema["properties"].items() if k in value}
    value = {key: value[key] for key, part in fits.items() if not problem_with(value[key], part)}
    fault = accept(value) if accept else None
    return (None, fault) if fault else (value, "")
