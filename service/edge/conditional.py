"""ETags: who has an answer already is told so instead of given it again.

Weak ones, over the bytes of the answer: a page that is made of many rows has no version of its own.
"""

from __future__ import annotations

import hashlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_KEPT = (
    "x-request-id",
    "vary",
    "cache-control",
    # Browsers put a 304's headers in place of the stored ones, so a page must keep its own.
    "content-security-policy",
    "cross-origin-opener-policy",
    "referrer-policy",
)


_TAGGED = ("application/json", "text/html", "application/octet-stream")


class Conditional:
    """For answers to GET that come in one piece; streams pass through."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        wanted = Headers(scope=scope).get("if-none-match", "")
        start: list[Message] = []

        async def tagging(message: Message) -> None:
            if message["type"] == "http.response.start" and _may_be_tagged(message):
                start.append(message)
                return
            if start and message["type"] == "http.response.body":
                begun = start.pop()
                if not message.get("more_body"):
                    begun, message = _tagged(begun, message, wanted)
                await send(begun)
            await send(message)

        await self.app(scope, receive, tagging)


def _may_be_tagged(message: Message) -> bool:
    headers = Headers(raw=message["headers"])
    kind = headers.get("content-type", "")
    return message["status"] == 200 and kind.startswith(_TAGGED)


def _tagged(begun: Message, body: Message, wanted: str) -> tuple[Message, Message]:
    """The two messages of the answer with its tag, or those of a 304."""
    digest = hashlib.blake2b(body.get("body", b""), digest_size=12).hexdigest()
    tag = f'W/"{digest}"'
    MutableHeaders(scope=begun)["ETag"] = tag
    MutableHeaders(scope=begun)["Cache-Control"] = "private, no-cache"
    known = {each.strip() for each in wanted.split(",")}
    if tag not in known and f'"{digest}"' not in known and "*" not in known:
        return begun, body
    kept = [(name, value) for name, value in begun["headers"] if name.decode() in _KEPT]
    headers = [*kept, (b"etag", tag.encode())]
    return {**begun, "status": 304, "headers": headers}, {**body, "body": b""}
