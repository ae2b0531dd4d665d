"""One OpenAI-compatible endpoint: calls, retries, waits, and what it turns out to support."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import openai
from openai.types.chat import ChatCompletion

from monosemy.interp.judging.answers import (
    Schema,
    as_sent,
    find_object,
    object_schema,
    without_limits,
)
from monosemy.interp.judging.books import Books, Intent, Outcome
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
Format = Literal["json_schema", "json_object", "text"]
_Request = Callable[[dict[str, str]], Awaitable[Any]]
"""Headers to an answer."""

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_REFUSED = {401, 402, 403, 404, 405}
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


@dataclass
class Dialect:
    """What of the OpenAI protocol this endpoint takes; learned by asking."""

    format: Format = "json_schema"
    schema_limits: bool = True
    """Lengths and ranges may stand in a schema."""
    limit_name: str = "max_tokens"
    left_out: set[str] = field(default_factory=set)
    """Sampling parameters that the endpoint refuses."""


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
    ) -> None:
        self.address = address_of(base_url)
        """The address without user and password, fit for logs and provenance."""
        self.model = model
        self.limits = limits
        self.books = books
        self.dialect = Dialect()
        self._key = api_key
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",
            max_retries=0,
            timeout=limits.timeout,
            # A proxy named in the environment must not stand between us and our own machine.
            http_client=openai.DefaultAsyncHttpxClient(
                trust_env=urlsplit(base_url).hostname not in _LOOPBACK
            ),
        )
        self.pace = pace
        self._probing = asyncio.Lock()
        self._probed = False

    async def aclose(self) -> None:
        await self.pace.aclose()
        await self._client.close()

    async def chat(
        self,
        messages: Sequence[Message],
        schema: Schema,
        *,
        name: str,
        max_tokens: int,
        temperature: float,
        seed: int,
        usage: Usage,
    ) -> Reply:
        """One answer, after as many attempts as ``limits`` allow.  Raises ``JudgeError``."""
        await self.probe(usage)
        return await self._adapting_call(
            messages, schema, name, max_tokens, temperature, seed, usage
        )

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
            while True:
                tried = self.dialect.format
                reply = await self._adapting_call(_PROBE, schema, "probe", 256, 0.0, 0, usage)
                if self.dialect.format == tried:
                    if tried == "text" or _honoured(reply, tried):
                        break
                    self._lower_format("ignores it")
            self._probed = True
            log.info("judge %s at %s answers in %s", self.model, self.address, self.dialect.format)

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

    def _lower_format(self, why: str) -> None:
        lower: Format = "json_object" if self.dialect.format == "json_schema" else "text"
        log.warning(
            "judge at %s: response_format %s is not available (%s); using %s with strict parsing",
            self.address,
            self.dialect.format,
            why,
            lower,
        )
        self.dialect.format = lower

    def _adapt(self, error: openai.APIStatusError, sent: Mapping[str, Any]) -> bool:
        """Learns from a refused request what to leave out; False when there is nothing to learn."""
        text = self._clean(error).lower()
        if "max_completion_tokens" in text and "max_tokens" in sent:
            self.dialect.limit_name = "max_completion_tokens"
            return True
        for parameter in ("temperature", "seed"):
            if parameter in text and parameter in sent:
                self.dialect.left_out.add(parameter)
                log.warning("judge at %s takes no '%s'; left out", self.address, parameter)
                return True
        about_format = re.search(r"response_format|json_schema|json_object|json mode|schema", text)
        if "response_format" in sent and (about_format or not self._probed):
            if sent["response_format"]["type"] != self.dialect.format:
                pass  # another call has lowered it meanwhile
            elif self.dialect.format == "json_schema" and self.dialect.schema_limits:
                self.dialect.schema_limits = False
            else:
                self._lower_format("refuses it")
            return True
        return False

    # ---------------------------------------------------------------- calls
    async def _adapting_call(
        self,
        messages: Sequence[Message],
        schema: Schema,
        name: str,
        max_tokens: int,
        temperature: float,
        seed: int,
        usage: Usage,
    ) -> Reply:
        while True:
            sent: dict[str, Any] = {self.dialect.limit_name: max_tokens, "temperature": temperature}
            if temperature > 0:
                sent["seed"] = seed
            for parameter in self.dialect.left_out:
                sent.pop(parameter, None)
            if self.dialect.format == "json_schema":
                shape = as_sent(schema) if self.dialect.schema_limits else without_limits(schema)
                described = {"name": name, "strict": True, "schema": shape}
                sent["response_format"] = {"type": "json_schema", "json_schema": described}
            elif self.dialect.format == "json_object":
                sent["response_format"] = {"type": "json_object"}
            try:
                return await self._one_reply(messages, sent, usage)
            except openai.APIStatusError as error:
                if not self._adapt(error, sent):
                    raise AnswerError(
                        f"The judge refused the request ({self._clean(error)}).", usage
                    ) from None
                usage.retries += 1

    async def _one_reply(
        self, messages: Sequence[Message], sent: Mapping[str, Any], usage: Usage
    ) -> Reply:
        most = sum(most_tokens(message["content"]) for message in messages)
        intent = Intent(self.model or "", most, sent[self.dialect.limit_name])
        request = self._ask(messages, sent)
        completion: ChatCompletion = await self._with_retries(
            lambda: self._entered(intent, request), usage, intent.expected_tokens
        )
        usage.count(completion.usage)
        choice = completion.choices[0]
        if getattr(choice.message, "refusal", None):
            return Reply("", "refusal")
        return Reply(choice.message.content or "", choice.finish_reason or "stop")

    def _ask(self, messages: Sequence[Message], sent: Mapping[str, Any]) -> _Request:
        return lambda headers: self._client.chat.completions.create(
            model=self.model or "",
            messages=list(messages),  # type: ignore[arg-type]
            extra_headers=headers,
            **sent,
        )

    async def _entered(self, intent: Intent, request: _Request) -> Any:
        """One HTTP request, entered in the books before and after."""
        call = await self.books.open(intent)
        try:
            answer = await request({"X-Request-Id": str(call)})
        except openai.APIStatusError as error:
            await self.books.close(call, Outcome(error.status_code))
            raise
        except (openai.APIError, ValueError):
            await self.books.close(call, Outcome(None))
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
        self, call: Callable[[], Awaitable[Any]], usage: Usage, tokens: int = 0
    ) -> Any:
        """Repeats ``call``, of about so many ``tokens``, over passing trouble.

        Lets ``APIStatusError`` 400 and kin through.
        """
        started = time.monotonic()
        try:
            for attempt in range(1, self.limits.attempts + 1):
                try:
                    answer = await self._in_turn(call, tokens)
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
            if isinstance(answer, str) or getattr(answer, "choices", True) in (None, []):
                raise ValueError("the body is no chat completion")
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
            raise AnswerError(f"The judge failed {attempt} times ({reason}).", usage) from None
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


def _honoured(reply: Reply, asked: Format) -> bool:
    if reply.finish == "length" and not reply.text.strip():
        return True  # a model that thinks first ran out of room: no sign of either
    value = find_object(reply.text)
    if value is None or not reply.text.lstrip().startswith("{"):
        return False
    return asked == "json_object" or isinstance(value.get("colour"), str)
