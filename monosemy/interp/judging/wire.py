"""What goes over the wire: requests by the openai client, and the bytes that come back.

The client's own reading of replies is left aside, since it believes their types: a body comes back
as the JSON object that it is, for ``replies`` to read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urljoin, urlsplit

import openai

from monosemy.interp.judging.failures import (
    BadReply,
    CallFailed,
    EndpointError,
    NoAnswer,
    StatusError,
    address_of,
    retry_after,
)
from monosemy.interp.judging.reasons import one_line, reason_of, redactor
from monosemy.interp.judging.replies import Body, parse_body, raise_for_error

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_MOST_BYTES = 64 * 2**20
"""Of a reply; prompt logprobs of 4,000 tokens come to some 10 MB."""
_MOST_FILE_BYTES = 2**30
"""Of a batch's file."""

_Opening = AbstractAsyncContextManager[Any]


class Wire:
    """The HTTP side of one endpoint, bound to the event loop that first uses it.

    Calls raise ``CallFailed`` and nothing else.
    """

    def __init__(self, base_url: str, api_key: str | None, timeout: float) -> None:
        """``timeout``: seconds for one request, from its start to the last byte of its answer; of a
        file, for each part of it.

        Raises ``EndpointError`` for an address or a key that cannot be one.
        """
        self.address = address_of(base_url)
        """The address without user and password, fit for logs and provenance."""
        api_key = api_key.strip() if api_key else None
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise EndpointError(
                "The judge's key holds characters that no HTTP header takes.",
                "Copy it again into MONOSEMY_JUDGE_API_KEY.",
            )
        self.redact = redactor(api_key)
        """Takes keys out of a text."""
        self._timeout = timeout
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",
            max_retries=0,
            timeout=timeout,
            # A proxy named in the environment must not stand between us and our own machine.
            # Nor may an answer send prompts on to some other host.
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False,
                trust_env=urlsplit(base_url).hostname not in _LOOPBACK,
            ),
        )

    async def aclose(self) -> None:
        await self._client.close()

    # ---------------------------------------------------------------- chat and completions
    async def chat(self, asked: Mapping[str, Any], headers: Mapping[str, str]) -> Body:
        """The body of an answer of ``/chat/completions``."""
        route = self._client.chat.completions.with_streaming_response
        sent = {**asked, "messages": encodable(asked["messages"])}
        return await self._object(route.create(**sent, extra_headers=dict(headers)), self._timeout)

    async def complete(self, asked: Mapping[str, Any], headers: Mapping[str, str]) -> Body:
        """The body of an answer of ``/completions``."""
        route = self._client.completions.with_streaming_response
        sent: dict[str, Any] = {**asked, "prompt": _encodable_text(asked["prompt"])}
        return await self._object(route.create(**sent, extra_headers=dict(headers)), self._timeout)

    async def models(self) -> Body:
        return await self._object(self._client.models.with_streaming_response.list(), self._timeout)

    # ---------------------------------------------------------------- batches
    async def upload(self, name: str, data: bytes) -> Body:
        """Uploads a file of questions."""
        route = self._client.files.with_streaming_response
        return await self._object(route.create(file=(name, data), purpose="batch"), None)

    async def download(self, file: str) -> bytes:
        route = self._client.files.with_streaming_response
        return await self._bytes(route.content(file), None, _MOST_FILE_BYTES)

    async def create_batch(self, **asked: Any) -> Body:
        route = self._client.batches.with_streaming_response
        return await self._object(route.create(**asked), self._timeout)

    async def batches(self, **asked: Any) -> Body:
        """A page of the list of batches, the newest first."""
        route = self._client.batches.with_streaming_response
        return await self._object(route.list(**asked), self._timeout)

    async def batch(self, id_: str) -> Body:
        route = self._client.batches.with_streaming_response
        return await self._object(route.retrieve(id_), self._timeout)

    async def cancel_batch(self, id_: str, timeout: float) -> None:
        route = self._client.batches.with_streaming_response
        await self._bytes(route.cancel(id_, timeout=timeout), timeout)

    # ---------------------------------------------------------------- reading
    async def _object(self, opening: _Opening, within: float | None) -> Body:
        body = parse_body(await self._bytes(opening, within))
        raise_for_error(body, self.redact)
        return body

    async def _bytes(
        self, opening: _Opening, within: float | None, most: int = _MOST_BYTES
    ) -> bytes:
        """``within``: seconds for all of it; None for as long as parts of it come."""
        try:
            async with asyncio.timeout(within), opening as response:
                parts, size = [], 0
                async for part in response.iter_bytes():
                    size += len(part)
                    if size > most:
                        raise BadReply(f"the body is longer than {most >> 20} MiB")
                    parts.append(part)
                return b"".join(parts)
        except CallFailed:
            raise
        except openai.APIStatusError as error:
            raise self._status_error(error) from None
        except (TimeoutError, openai.APITimeoutError):
            raise NoAnswer(f"no answer within {self._timeout:g} s", silent=True) from None
        except openai.APIConnectionError as error:
            raise NoAnswer(self._redacted(error.__cause__ or error)) from None
        except Exception as error:
            # The HTTP library's own: it broke off, its compression is false, its length is wrong.
            raise BadReply(f"the reply could not be read: {self._redacted(error)}") from None

    def _status_error(self, error: openai.APIStatusError) -> StatusError:
        response = error.response
        wait = retry_after({name.lower(): value for name, value in response.headers.items()})
        reason = reason_of(response.content, self.redact)
        return StatusError(
            error.status_code,
            reason,
            wait if wait is not None else reason.wait,
            leads_to=self._leads_to(str(response.url), response.headers.get("location")),
        )

    def _leads_to(self, asked: str, location: str | None) -> str | None:
        """Where an answer sends its caller, without user, password and query; None for nowhere."""
        try:
            return None if location is None else self._shown(address_of(urljoin(asked, location)))
        except (EndpointError, ValueError):
            return None

    def _redacted(self, error: BaseException) -> str:
        return self._shown(f"{type(error).__name__}: {error}")

    def _shown(self, text: str) -> str:
        return one_line(self.redact(text))


def encodable(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages without halves of surrogate pairs, which no encoding has."""
    return [
        {
            name: _encodable_text(part) if isinstance(part, str) else part
            for name, part in each.items()
        }
        for each in messages
    ]


def _encodable_text(text: str) -> str:
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        pass
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
