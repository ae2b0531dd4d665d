"""What surrounds every request: ids, log, metrics, headers, loopback-only open mode.

Plain ASGI, so that server-sent events pass through unbuffered.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.edge.origin import READING_METHODS, host_of, is_loopback, other_origin, page_of
from service.edge.routing import is_quiet
from service.kit.problems import Problem, from_exception, problem_answer
from service.observability import logs, tracing
from service.settings import Settings
from service.system.metrics import HttpMetrics

MAX_HEADER_BYTES = 32 * 1024

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_FOR = re.compile(r"for\s*=\s*\"?([^\s\",;]+)", re.IGNORECASE)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LONGEST_PATH = 500
"""Characters of a path that the log keeps: callers choose them."""

logger = logging.getLogger(__name__)


class BelowPath:
    """Lets routes and links know the path that a proxy serves us below, and takes off."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app, self.prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.prefix:
            scope["root_path"] = self.prefix
        await self.app(scope, receive, send)


class RequestBoundary:
    """Outermost but for what tells where a request came from: names it, answers what nobody
    caught, logs and counts."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        supplied = Headers(scope=scope).get("x-request-id", "")
        identity = supplied if _REQUEST_ID.fullmatch(supplied) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = identity
        token = logs.request_id.set(identity)
        answer = _Answer(send, identity)
        try:
            with tracing.span("request", Headers(scope=scope), request_id=identity) as span:
                try:
                    check_headers(scope["headers"])
                    await self.app(scope, receive, answer.send)
                finally:
                    _name(span, scope, answer)
        except Exception as error:
            if answer.status is not None:
                # Too late for a problem: the server must break the connection off.
                logger.exception("error after the response began")
                raise
            response = await problem_answer(scope, from_exception(error))
            await response(scope, receive, answer.send)
        finally:
            self._record(scope, answer)
            logs.request_id.reset(token)

    def _record(self, scope: Scope, answer: _Answer) -> None:
        route = route_template(scope)
        # A client that left before the answer is nobody's error.
        status = answer.status or 499
        self.metrics.observe(method_label(scope), route, status, answer.seconds)
        run = scope.get("path_params", {}).get("run_id")
        level = logging.DEBUG if is_quiet(scope) else logging.INFO
        logger.log(
            level,
            "request",
            extra={
                "method": method_label(scope),
                "path": scope["path"][:_LONGEST_PATH],
                "status": status,
                "seconds": round(answer.elapsed, 4),
                "client": (scope.get("client") or ("unix",))[0],
                **({"run_id": run} if run else {}),
            },
        )


def _name(span: Any, scope: Scope, answer: _Answer) -> None:
    """The route is known only once the request has been."""
    if span is not None:
        span.update_name(f"{method_label(scope)} {route_template(scope)}")
        if answer.status is not None:
            span.set_attribute("http.response.status_code", answer.status)


def check_headers(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raises ``Problem`` for what the server's parser lets pass: endless headers, two hosts."""
    size = hosts = 0
    for name, value in headers:
        size += len(name) + len(value)
        hosts += name == b"host"
    if size > MAX_HEADER_BYTES:
        raise Problem(
            431,
            "headers-too-large",
            "Headers too large",
            f"The headers of a request may have at most {MAX_HEADER_BYTES} bytes.",
        )
    if hosts > 1:
        raise Problem(400, "two-hosts", "Two hosts", "A request has one Host header.")


def method_label(scope: Scope) -> str:
    """The request's method; ``other`` for one that HTTP does not know, since callers invent them
    and a label is kept for ever."""
    method: str = scope["method"]
    return method if method in _METHODS else "other"


def route_template(scope: Scope) -> str:
    """The path with its parameters' names in place of their values; bounded, so fit for a label."""
    if scope.get("route") is None:
        return "unmatched"
    segments: list[str] = scope["path"].split("/")
    end = len(segments)
    for name, value in reversed(scope.get("path_params", {}).items()):
        if str(value) in segments[:end]:
            end = max(i for i in range(end) if segments[i] == str(value))
            segments[end] = f"{{{name}}}"
    return "/".join(segments)


class _Answer:
    """Adds the headers that every response has and notes its status and time to first byte."""

    def __init__(self, send: Send, identity: str) -> None:
        self._send = send
        self._identity = identity
        self._start = time.perf_counter()
        self._first_byte: float | None = None
        self.status: int | None = None

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._start

    @property
    def seconds(self) -> float:
        """Until the response began: an event stream's length says nothing of latency."""
        return self.elapsed if self._first_byte is None else self._first_byte

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._first_byte = self.elapsed
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self._identity
            framed = _says_who_may_frame(headers.get("content-security-policy", ""))
            for name, value in SECURITY_HEADERS.items():
                if not (framed and name == "X-Frame-Options"):
                    headers.setdefault(name, value)
        await self._send(message)


def _says_who_may_frame(policy: str) -> bool:
    """Whether a policy names pages that may frame the answer, which X-Frame-Options cannot."""
    _, said, ancestors = policy.partition("frame-ancestors ")
    return bool(said) and not ancestors.startswith("'none'")


class LoopbackOnly:
    """Open mode: without keys, only this machine is served.

    The ``Host`` and ``Origin`` are checked too, or any web page open in a browser here could reach
    the API through a name of its own that resolves to 127.0.0.1.  A proxy on this machine that
    names another as the sender is refused as well: the address is then taken as a warning, never as
    a proof.

    What may change something comes from our own page, to the port, from a page that
    ``MONOSEMY_CORS_ORIGINS`` names, or from no page at all (``OtherOrigin``).
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            client = scope.get("client")
            origin = headers.get("origin")
            if (
                (client is not None and not is_loopback(client[0]))
                or not is_loopback(host_of("//" + headers.get("host", "")))
                or (origin is not None and not is_loopback(host_of(origin)))
                or not all(is_loopback(each) for each in _forwarded_for(headers))
            ):
                raise Problem(
                    403,
                    "loopback-only",
                    "Only this machine is served",
                    "API keys are off, so only requests from this machine, to a loopback address,"
                    " are served. Set MONOSEMY_REQUIRE_KEYS=true and make a key with"
                    " 'monosemy keys create' to serve others.",
                )
            if (
                scope["method"] not in READING_METHODS
                and origin not in self.settings.allowed_origins
                and page_of(self.settings, scope) == "other"
            ):
                raise other_origin(self.settings, scope)
        await self.app(scope, receive, send)


def _forwarded_for(headers: Headers) -> list[str]:
    """Whom proxies name as senders (``X-Forwarded-For``, ``X-Real-IP``, RFC 7239)."""
    named = ",".join(headers.getlist("x-forwarded-for") + headers.getlist("x-real-ip"))
    plain = [each.strip() for each in named.split(",") if each.strip()]
    standard = _FOR.findall(",".join(headers.getlist("forwarded")))
    return [host_of(f"//{each}") if "]" in each else each for each in plain + standard]
