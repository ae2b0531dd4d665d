"""One OpenAI-compatible endpoint: calls, retries, waits, and what it turns out to support."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import openai
from openai.types.chat import ChatCompletion

from monosemy.interp.judging.answers import Schema, find_object, object_schema
from monosemy.interp.judging.batches import Batches, BatchLimits, NoBatches, Unanswered
from monosemy.interp.judging.books import Books, Intent, Outcome
from monosemy.interp.judging.dialect import Dialect, Format
from monosemy.interp.judging.failures import (
    AnswerError,
    EndpointError,
    JudgeAway,
    address_of,
    may_pass,
    retry_after,
)
from monosemy.interp.judging.pace import Pace
from monosemy.interp.judging.usage import Usage, most_tokens

log = logging.getLogger(__name__)

Message = dict[str, str]
_Request = Callable[[dict[str, str]], Awaitable[Any]]
"""Headers to an answer."""

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_REFUSED = {301, 302, 303, 307, 308, 401, 402, 403, 404, 405}
_UNDERSTOOD_NOT = {400, 415, 422, 501}
_KEY_LIKE = re.compile(r"\b(?:sk|pk|key|bearer|token)[-_ ][\w*.\-]{8,}", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """How patient to be with an endpoint; times in seconds."""

    timeout: float = 120.0
    """Longest time for one call."""
    attempts: int = 5
    """HTTP requests per call before it is given up."""
    first_wait: float = 0.5
    """Wait before the first retry; it doubles each time, with jitter."""
    longest_wait: float = 60.0
    """A wait is never longer; an endpoint that asks for more (Retry-After) fails the call."""
    batch: BatchLimits = field(default_factory=BatchLimits)
    """When batches are sent and looked after."""


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


@dataclass(frozen=True)
class Reply:
    text: str
    finish: str
    """``stop``, ``length``, ``content_filter`` or ``refusal``."""


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
        books: Books,
        batched: bool = False,
    ) -> None:
        """``batched``: questions go through the Batch API, but for those that find out what the
        endpoint takes."""
        self.address = address_of(base_url)
        """The address without user and password, fit for logs and provenance."""
        self.model = model
        self.limits = limits
        self.books = books
        self.dialect = Dialect(self.address)
        self._key = api_key
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",
            max_retries=0,
            timeout=limits.timeout,
            # A proxy named in the environment must not stand between us and our own machine.
            # Nor may an answer send prompts on to some other host.
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False,
                trust_env=urlsplit(base_url).hostname not in _LOOPBACK,
            ),
        )
        batches = Batches(self._client, self.address, limits.batch, books)
        self.batches = batches if batched else None
        self.pace = pace
        self._probing = asyncio.Lock()
        self._probed = False

    async def aclose(self) -> None:
        if self.batches is not None:
            await self.batches.aclose()
        await self.pace.aclose()
        await self._client.close()

    async def chat(self, question: Question, usage: Usage) -> Reply:
        """One answer, after as many attempts as ``limits`` allow.  Raises ``JudgeError``."""
        await self.probe(usage)
        return await self._adapting_call(question, usage)

    async def complete(self, prompt: str, usage: Usage, **sent: Any) -> dict[str, Any]:
        """The body of one answer of ``/completions``, with fields outside the protocol.

        Raises ``JudgeError``, also for what the endpoint does not understand.
        """
        if self.model is None:
            self.model = await self._only_model(usage)
        model = self.model
        intent = Intent(model, most_tokens(prompt), sent.get("max_tokens", 16))

        def request(headers: dict[str, str]) -> Awaitable[Any]:
            return self._client.completions.create(
                model=model, prompt=prompt, temperature=0.0, extra_headers=headers, **sent
            )

        try:
            completion = await self._with_retries(
                lambda: self._entered(intent, request), usage, intent.expected_tokens
            )
        except openai.APIStatusError as error:
            raise AnswerError(
                f"The judge refused the request ({self._clean(error)}).", usage
            ) from None
        usage.count(completion.usage)
        return dict(completion.model_dump(warnings=False))

    # ---------------------------------------------------------------- capabilities
    async def probe(self, usage: Usage) -> None:
        """Finds out, once, the model's name and which ``response_format`` is honoured."""
        async with self._probing:
            if self._probed:
                return
            if self.model is None:
                self.model = await self._only_model(usage)
            schema = object_schema({"colour": {"type": "string", "minLength": 3}})
            question = Question(_PROBE, schema, "probe", max_tokens=256)
            while True:
                tried = self.dialect.format
                reply = await self._adapting_call(question, usage)
                if self.dialect.format == tried:
                    if tried == "text" or _honoured(reply, tried):
                        break
                    self.dialect.lower_format("ignores it")
            if self.batches is not None:
                await self._with_retries(self.batches.look, usage)
            self._probed = True
            log.info("judge %s at %s answers in %s", self.model, self.address, self.dialect.format)

    async def answer_logprobs(self, usage: Usage) -> tuple[bool, str]:
        """Whether answers come with log probabilities, and how or why not."""
        if self.model is None:
            self.model = await self._only_model(usage)
        limit = {self.dialect.limit_name: 1}
        asked = {"model": self.model, "messages": _PROBE, "logprobs": True, "top_logprobs": 5}
        intent = Intent(self.model, most_tokens(str(_PROBE)), 1)
        request = self._live({**asked, **limit})
        try:
            answer = await self._with_retries(
                lambda: self._entered(intent, request), usage, intent.expected_tokens
            )
        except openai.APIStatusError as error:
            return False, self._clean(error)
        usage.count(answer.usage)
        told = getattr(answer.choices[0], "logprobs", None)
        tokens = getattr(told, "content", None) or []
        if not tokens:
            return False, "answers come without them"
        return True, f"the {len(tokens[0].top_logprobs)} likeliest of each token"

    async def has_batches(self) -> tuple[bool, str]:
        """Whether there is a Batch API, and how or why not."""
        batches = self.batches or Batches(self._client, self.address, self.limits.batch)
        try:
            await self._with_retries(batches.look, Usage())
        except NoBatches as error:
            return False, error.message
        return True, "its list of batches can be read"

    async def _only_model(self, usage: Usage) -> str:
        try:
            page = await self._with_retries(lambda: self._client.models.list(), usage)
        except openai.APIStatusError as error:
            raise EndpointError(
                f"The judge at {self.address} lists no models ({self._clean(error)}).",
                "Name one: judge.model in the spec, or MONOSEMY_JUDGE_MODEL.",
            ) from None
        names = [item.id for item in getattr(page, "data", None) or []]
        if len(names) != 1:
            raise EndpointError(
                f"The endpoint at {self.address} lists {len(names)} models.",
                "Name one: judge.model in the spec, or MONOSEMY_JUDGE_MODEL.",
            )
        return str(names[0])

    # ---------------------------------------------------------------- calls
    async def _adapting_call(self, question: Question, usage: Usage) -> Reply:
        while True:
            sent = self.dialect.parameters(
                question.schema,
                question.name,
                question.max_tokens,
                question.temperature,
                question.seed,
            )
            try:
                return await self._one_reply(question, sent, usage)
            except openai.APIStatusError as error:
                reason = self._clean(error)
                if not self.dialect.learn(reason, sent, probing=not self._probed):
                    raise AnswerError(f"The judge refused the request ({reason}).", usage) from None
                usage.retries += 1

    async def _one_reply(self, question: Question, sent: Mapping[str, Any], usage: Usage) -> Reply:
        most = sum(most_tokens(message["content"]) for message in question.messages)
        intent = Intent(self.model or "", most, sent[self.dialect.limit_name])
        asked = {"model": self.model or "", "messages": list(question.messages), **sent}
        batched = self.batches is not None and self._probed and not question.live
        request = self._in_batch(asked) if batched else self._live(asked)
        completion: ChatCompletion = await self._with_retries(
            lambda: self._entered(intent, request), usage, intent.expected_tokens, paced=not batched
        )
        usage.count(completion.usage)
        choice = completion.choices[0]
        if getattr(choice.message, "refusal", None):
            return Reply("", "refusal")
        text = choice.message.content or ""
        if self._key:
            text = text.replace(self._key, "[key]")  # some endpoints repeat what they were sent
        return Reply(text, choice.finish_reason or "stop")

    def _live(self, asked: dict[str, Any]) -> _Request:
        return lambda headers: self._client.chat.completions.create(**asked, extra_headers=headers)

    def _in_batch(self, asked: dict[str, Any]) -> _Request:
        assert self.batches is not None
        batches = self.batches
        return lambda headers: batches.ask(headers["X-Request-Id"], asked)

    async def _entered(self, intent: Intent, request: _Request) -> Any:
        """One HTTP request, entered in the books before and after."""
        call = await self.books.open(intent)
        try:
            answer = await request({"X-Request-Id": str(call)})
        except openai.APIStatusError as error:
            await self.books.close(call, Outcome(error.status_code))
            raise
        except (openai.APIError, ValueError) as error:
            await self.books.close(call, Outcome(408 if isinstance(error, Unanswered) else None))
            raise
        usage = getattr(answer, "usage", None)
        if usage is None:
            await self.books.close(call, Outcome(200))
        else:
            details = usage.prompt_tokens_details
            cached = (details.cached_tokens or 0) if details else 0
            tokens = (usage.prompt_tokens or 0, cached, usage.completion_tokens or 0)
            await self.books.close(call, Outcome(200, tokens))
        return answer

    async def _with_retries(
        self,
        call: Callable[[], Awaitable[Any]],
        usage: Usage,
        tokens: int = 0,
        paced: bool = True,
    ) -> Any:
        """Repeats ``call``, of about so many ``tokens``, over passing trouble.

        ``paced`` calls wait for their turn at the endpoint.  Lets ``APIStatusError`` 400 and kin
        through.
        """
        started = time.monotonic()
        try:
            for attempt in range(1, self.limits.attempts + 1):
                try:
                    answer = await (self._in_turn(call, tokens) if paced else _checked(call))
                    usage.calls += 1
                    return answer
                except (openai.APIError, ValueError) as error:
                    wait = await self._wait_after(error, attempt, usage)
                usage.retries += 1
                await asyncio.sleep(wait)
            raise AssertionError("unreachable: the last attempt raises")
        finally:
            usage.seconds += time.monotonic() - started

    async def _in_turn(self, call: Callable[[], Awaitable[Any]], tokens: int) -> Any:
        async with self.pace.turn(tokens) as turn:
            try:
                answer = await call()
            except openai.APIStatusError as error:
                asked = retry_after(error)
                if asked is not None and may_pass(error.status_code):
                    # Before this turn ends, or the next call would slip through.
                    await self.pace.hold(min(asked, self.limits.longest_wait))
                raise
            _check(answer)
            spent = getattr(answer, "usage", None)
            if spent is not None:
                turn.used((spent.prompt_tokens or 0) + (spent.completion_tokens or 0))
            return answer

    async def _wait_after(self, error: Exception, attempt: int, usage: Usage) -> float:
        """Seconds until the next attempt; raises when there is to be none."""
        status = error.status_code if isinstance(error, openai.APIStatusError) else None
        reason = self._clean(error)
        if status in _UNDERSTOOD_NOT:
            raise error
        if status in _REFUSED or "insufficient_quota" in reason:
            raise EndpointError(
                f"The judge at {self.address} refuses us ({reason}).",
                "Check the judge's address, key and model name.",
            ) from None
        final = attempt == self.limits.attempts or (status is not None and not may_pass(status))
        asked = retry_after(error) if isinstance(error, openai.APIStatusError) else None
        if asked is not None and asked > self.limits.longest_wait:
            raise JudgeAway(f"The judge asks to wait {asked:.0f} s ({reason}).", asked) from None
        if final and type(error) is openai.APIConnectionError and not self._probed:
            raise EndpointError(
                f"The judge at {self.address} cannot be reached ({reason}).",
                "Check that it runs and that the address is right.",
            ) from None
        # A plain 500, time and again, may well be this question's fault; a gateway's errors, limits
        # and silence are not.
        if final and status != 500 and (status is None or may_pass(status)):
            raise JudgeAway(f"The judge failed {attempt} times ({reason}).") from None
        if final:
            told = f"The judge failed {attempt} times ({reason})."
            raise AnswerError(told, usage, passing=True) from None
        if asked is not None:
            return asked
        backoff = min(self.limits.longest_wait, self.limits.first_wait * 2 ** (attempt - 1))
        return backoff * random.uniform(0.5, 1.0)

    def _clean(self, error: Exception) -> str:
        """A short reason without the key, whatever the endpoint echoed."""
        text = f"{type(error).__name__}: {error}"
        if self._key:
            text = text.replace(self._key, "[key]")
        return " ".join(_KEY_LIKE.sub("[key]", text).split())[:300]


_PROBE: list[Message] = [
    {"role": "system", "content": "Answer in JSON."},
    {"role": "user", "content": "Which colour is the sky by day?"},
]


async def _checked(call: Callable[[], Awaitable[Any]]) -> Any:
    answer = await call()
    _check(answer)
    return answer


def _check(answer: Any) -> None:
    if isinstance(answer, str) or getattr(answer, "choices", True) in (None, []):
        raise ValueError("the body is no chat completion")


def _honoured(reply: Reply, asked: Format) -> bool:
    if reply.finish == "length" and not reply.text.strip():
        return True  # a model that thinks first ran out of room: no sign of either
    value = find_object(reply.text)
    if value is None or not reply.text.lstrip().startswith("{"):
        return False
    return asked == "json_object" or isinstance(value.get("colour"), str)
