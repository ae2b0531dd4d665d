"""The door of the inner servers: who is no part of this service is not let in.

A part shows the token of the parts.  A server without one serves this machine alone.  The Host is
looked at either way, so that no name of a web page's own leads here (DNS rebinding), and whatever
comes from a page in a browser, which sends its Origin, is refused.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.edge.origin import is_loopback
from service.kit.errors import Misconfigured
from service.kit.problems import Problem
from service.settings import Settings

OPEN_PATHS = frozenset({"/healthz"})
"""Say nothing but that the process lives; orchestrators ask without a token.  A token that is shown
has to be right here too, so that readiness tells of one that is not."""


def check_inner_exposure(settings: Settings, host: str) -> None:
    """``Misconfigured`` for an inner server that would serve others without a token."""
    if settings.parts_token is None and not is_loopback(host):
        raise Misconfigured(
            f"The inference server would listen on {host} and let anybody in.",
            "Set MONOSEMY_PARTS_TOKEN, here and for the API and workers, or listen on 127.0.0.1.",
        )


class PartsOnly:
    """Raises ``Problem``: 401 without the token, 403 for another Host, an Origin, and, where there
    is no token, for another machine."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        token = settings.parts_token
        self._token = None if token is None else token.get_secret_value().encode()
        own = urlsplit(settings.inference_url or "").hostname
        self._names: Collection[str] = {own.lower()} if own else ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._check(scope)
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if "origin" in headers:
            raise _refused("A page in a browser has no business here.")
        if not self._is_ours(_name_in(headers.get("host", ""))):
            raise _refused(
                "This server is not known by that Host: set MONOSEMY_INFERENCE_URL here as the API"
                " has it."
            )
        if self._token is None:
            client = scope.get("client")
            if client is not None and not is_loopback(client[0]):
                raise _refused("Without MONOSEMY_PARTS_TOKEN only this machine is served.")
        elif scope["path"] not in OPEN_PATHS or "authorization" in headers:
            kind, _, presented = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(presented.encode(), self._token)
            if kind.lower() != "bearer" or not right:
                raise Problem(
                    401,
                    "unauthenticated",
                    "Only parts of this service are served",
                    "Send the token of the parts: MONOSEMY_PARTS_TOKEN differs, or is not set.",
                    headers={"WWW-Authenticate": 'Bearer realm="monosemy parts"'},
                )

    def _is_ours(self, name: str) -> bool:
        if is_loopback(name) or name.lower() in self._names:
            return True
        if self._token is None:
            return False
        try:  # an address is no name that somebody could have made to point here
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _name_in(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _refused(detail: str) -> Problem:
    return Problem(403, "parts-only", "Only parts of this service are served", detail)
