"""The cookie of a session: its name, where it goes, how it is put and taken away."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from service.edge.origin import host_of, is_loopback, own_origin
from service.settings import Settings

HOST_ONLY = "__Host-monosemy"
"""Browsers take this name only by https, for this host alone and all of its paths."""
UNDER_PREFIX = "__Secure-monosemy"
"""For a server below a path of a host: browsers take it only by https."""
PLAIN = "monosemy_session"
"""On this machine, without TLS."""
CLEARED = '"storage"'
"""At the end of a session.  Not ``"cookies"``, which would log out of every service of the same
domain: ours is deleted by name."""
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
"""256 random bits, as ``secrets.token_urlsafe(32)`` writes them."""


@dataclass(frozen=True)
class Cookie:
    """How a session's cookie is sent to the browser of a request."""

    name: str
    path: str
    secure: bool

    def put(self, response: Response, token: str, seconds: int) -> None:
        response.set_cookie(
            self.name,
            token,
            max_age=seconds,
            path=self.path,
            secure=self.secure,
            httponly=True,
            samesite="lax",
        )

    def take_away(self, response: Response) -> None:
        """And whatever else the browser keeps of this origin."""
        response.delete_cookie(
            self.name, path=self.path, secure=self.secure, httponly=True, samesite="lax"
        )
        response.headers["Clear-Site-Data"] = CLEARED


def cookie_for(settings: Settings, request: Request) -> Cookie | None:
    """None where a cookie would travel in the clear: plain http to another machine.  What the
    browser believes to speak to decides, not who connects: that may be a proxy."""
    own = own_origin(settings, request.scope)
    if own is None:
        return None
    path = settings.path_prefix or "/"
    if own.startswith("https://"):
        return Cookie(UNDER_PREFIX if settings.path_prefix else HOST_ONLY, path, True)
    return Cookie(PLAIN, path, False) if is_loopback(host_of(own)) else None


def token_of(settings: Settings, request: Request) -> str | None:
    """What the request's session cookie holds; None without one, and for what none of ours can
    be, which then costs no look into the database."""
    cookie = cookie_for(settings, request)
    token = request.cookies.get(cookie.name, "") if cookie else ""
    return token if _TOKEN.fullmatch(token) else None
