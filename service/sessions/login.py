"""Logging in and out, for the REST calls and the pages alike."""

from __future__ import annotations

import ipaddress
import math
import uuid
from dataclasses import dataclass

from fastapi import Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from service.database.session_tables import BrowserSession
from service.edge.context import AppContext
from service.edge.origin import check_no_other_page, own_origin
from service.keys.authorize import Caller, know_caller
from service.keys.ownership import check_owner
from service.keys.service import recognise
from service.kit.errors import (
    Conflict,
    Forbidden,
    NotFound,
    TooManyRequests,
    Unauthenticated,
)
from service.sessions import repository, service
from service.sessions.cookies import Cookie, cookie_for, token_of

LOGINS_PER_MINUTE = 30
"""From one address, a quarter of them at once."""


class InsecureLogin(Forbidden):
    """A login whose key and cookie anybody on the way could read."""

    code, title = "insecure-login", "Logging in needs https"


@dataclass(frozen=True)
class Begun:
    """A session that was just begun."""

    row: BrowserSession
    csrf: str
    _cookie: Cookie
    _token: str

    def put_cookie(self, response: Response) -> None:
        self._cookie.put(response, self._token, int(repository.LONGEST.total_seconds()))


def log_in(
    session: Session, request: Request, context: AppContext, key: str, read_only: bool
) -> Begun:
    """A session of ``key``, in the place of the one that the browser has.

    ``Conflict`` in open mode, ``InsecureLogin`` by plain http from another machine,
    ``OtherOrigin`` from a page of another origin, ``TooManyRequests`` above the rate of the
    address, ``Unauthenticated`` for a key that is not good.  The last, and success, are entered in
    the audit log.
    """
    settings = context.settings
    if not settings.require_keys:
        raise Conflict(
            "No login is needed: this server asks for no API keys, and serves this machine only.",
            code="no-login-needed",
            title="No login is needed",
        )
    cookie = cookie_for(settings, request)
    if cookie is None:
        raise insecure(own_origin(settings, request.scope))
    check_no_other_page(settings, request.scope)
    _take_turn(request, context)
    request.state.entered_anyway = True
    stored = recognise(session, key.strip(), settings.secret)
    if stored is None:
        raise Unauthenticated("This API key is unknown, revoked or expired.")
    know_caller(request, stored, stored.scopes)
    earlier = token_of(settings, request)
    if earlier is not None:
        service.forget(session, earlier, settings.secret)
    row, token = service.begin(session, stored, read_only, address_of(request), settings.secret)
    return Begun(row, service.csrf_token(token, settings.secret), cookie, token)


def log_out(session: Session, request: Request, context: AppContext, response: Response) -> None:
    """Ends the request's session, if it came by one, and has the browser forget it."""
    current = getattr(request.state, "session", None)
    cookie = cookie_for(context.settings, request)
    if current is not None and cookie is not None:
        repository.remove(session, current.id)
        cookie.take_away(response)


def end(
    session: Session,
    request: Request,
    context: AppContext,
    caller: Caller,
    id: uuid.UUID,
    response: Response,
) -> None:
    """Ends a session of ``caller``'s key; the request's own like ``log_out``.

    ``NotFound`` where there is none, ``Forbidden`` for that of another key.
    """
    row = repository.get(session, id)
    if row is None:
        raise NotFound("session", id, "It may have ended.")
    check_owner(caller, row.key_id, "the session")
    current = getattr(request.state, "session", None)
    if current is not None and id == current.id:
        log_out(session, request, context, response)
    else:
        repository.remove(session, id)


def address_of(request: Request) -> str:
    """Whom the request comes from, as trusted proxies say; ``unix`` by a socket."""
    return request.client.host if request.client is not None else "unix"


def _take_turn(request: Request, context: AppContext) -> None:
    who = f"login:{_network(address_of(request))}"
    allowance = context.rates.take(who, LOGINS_PER_MINUTE)
    if not allowance.allowed:
        wait = math.ceil(allowance.wait)
        raise TooManyRequests(
            f"Too many logins from this address. Come back in {wait} s.", max(1, wait)
        )


def _network(address: str) -> str:
    """What one caller has: an address of IPv4, 2^64 of IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed)


def insecure(own: str | None) -> InsecureLogin:
    """The error of a server whose origin browsers reach without TLS."""
    where = "This request came by" if own is None else f"Browsers reach this server at {own}, by"
    return InsecureLogin(
        f"{where} plain http from another machine: key and cookie would travel in the clear.",
        "Put a proxy with TLS before it (MONOSEMY_PUBLIC_URL, MONOSEMY_TRUSTED_PROXIES), or come"
        " through 'ssh -L' to a port of your own machine.",
    )
