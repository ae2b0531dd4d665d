"""Dependencies that let a request through when its API key has the scope.

A request shows the key itself in a header.  Where it has none, the session of its cookie stands for
the key; then what may change something must come from a page of ours, and show its token.
"""

from __future__ import annotations

import hmac
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.database.key_tables import ApiKey
from service.database.session import transaction
from service.edge.context import AppContext
from service.edge.origin import READING_METHODS, check_own_page
from service.keys.service import allows, is_well_formed, recognise
from service.kit.errors import MissingScope, TooManyRequests, Unauthenticated, WrongToken
from service.sessions import service as sessions
from service.sessions.cookies import token_of
from service.sessions.service import CurrentSession

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    description="`Authorization: Bearer mnsy_...`; asked for when the server requires keys."
    " The header `X-API-Key` serves as well.",
)
CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf"
LOCAL = "local"
"""Who asks in open mode."""
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


class Scope:
    """``Depends(Scope("run"))``: passes everybody in open mode, else keys with that scope.

    A route of ``service.edge.routing`` looks for it before it reads anything of the request's body.
    """

    def __init__(self, needed: str) -> None:
        self.needed = needed

    async def __call__(
        self,
        request: Request,
        credentials: Credentials,  # noqa: ARG002 - it is here for the OpenAPI document
    ) -> None:
        if self.needed not in getattr(request.state, "admitted", ()):
            await admit(request, request.app.state.context, [self.needed])


class Anybody:
    """``Depends(Anybody())``: a route for callers without a key."""

    async def __call__(self) -> None:
        """Nothing is asked."""


async def admit(
    request: Request, context: AppContext, needed: Sequence[str], token_in_form: bool = False
) -> None:
    """Notes whose key the request bears, or the session of which key, and counts it once, whatever
    the number of scopes.

    ``Unauthenticated`` without a good key, ``TooManyRequests`` above its rate, ``MissingScope``
    where it lacks one of ``needed``.  For unsafe methods by a session ``OtherOrigin`` unless a page
    of ours asks, and ``WrongToken`` without the session's token; with ``token_in_form`` the caller
    has yet to ``check_token``.
    """
    forget_caller(request)
    if context.settings.require_keys:
        credentials = await _bearer(request)
        key = credentials.credentials if credentials else request.headers.get("x-api-key")
        # What is no key at all costs neither a thread nor a look into the database.
        if key is None:
            await _admit_session(request, context, needed, token_in_form)
        elif not is_well_formed(key):
            raise Unauthenticated("This API key is unknown, revoked or expired.")
        else:
            await context.lanes.auth.run(partial(_check_key, request, context, key, needed))
    request.state.admitted = frozenset(needed)


async def _admit_session(
    request: Request, context: AppContext, needed: Sequence[str], token_in_form: bool
) -> None:
    token = token_of(context.settings, request)
    if token is None:
        raise Unauthenticated(
            "This needs an API key or a login, and there is neither.",
            "In a browser log in; programs send 'Authorization: Bearer mnsy_...', and the command"
            " line and the client do with the key in MONOSEMY_API_KEY.",
        )
    unsafe = request.method not in READING_METHODS
    if unsafe:
        check_own_page(context.settings, request.scope)
    check = partial(_check_session, request, context, token, needed)
    await context.lanes.auth.run(partial(check, with_token=unsafe and not token_in_form))


def is_asked(request: Request) -> bool:
    """Whether it was looked at whose request it is, whatever came of it."""
    return hasattr(request.state, "key_id")


def forget_caller(request: Request) -> None:
    """Nobody is known to have sent the request."""
    state = request.state
    state.key_id = state.key_prefix = state.key_name = state.key_scopes = None
    state.own_scopes = None
    state.session = None


def know_caller(request: Request, key: ApiKey, scopes: Sequence[str]) -> None:
    """Notes who sent the request, for the endpoint, the audit log and whoever shows it.
    ``scopes``: what it may, at most what the key itself may."""
    state = request.state
    state.key_id, state.key_prefix, state.key_name = key.id, key.prefix, key.name
    state.key_scopes, state.own_scopes = scopes, key.scopes


def check_token(request: Request, shown: str | None) -> None:
    """``WrongToken`` unless ``shown`` is the token of the request's session; without a session
    there is none to show."""
    current: CurrentSession | None = getattr(request.state, "session", None)
    if current is None:
        return
    if not shown:
        raise WrongToken(
            "A change by a session must show the session's token.",
            f"Send it in the header {CSRF_HEADER}, or in the field '{CSRF_FIELD}' of a form.",
        )
    if not hmac.compare_digest(shown.encode(errors="replace"), current.csrf.encode()):
        raise WrongToken(
            "The token is not that of this session: the page was opened before the last login.",
            "Load the page anew and do it again.",
        )


def _check_key(request: Request, context: AppContext, key: str, needed: Sequence[str]) -> None:
    with transaction(context.engine) as session:
        stored = recognise(session, key, context.settings.secret)
    if stored is None:
        raise Unauthenticated("This API key is unknown, revoked or expired.")
    know_caller(request, stored, stored.scopes)
    _check_limits(request, context, stored, needed)


def _check_session(
    request: Request, context: AppContext, token: str, needed: Sequence[str], with_token: bool
) -> None:
    with transaction(context.engine) as session:
        found = sessions.recognise(session, token, context.settings.secret)
    if found is None:
        raise Unauthenticated("This session has ended: log in again.")
    request.state.session, stored = found
    know_caller(request, stored, request.state.session.scopes)
    if with_token:
        check_token(request, request.headers.get(CSRF_HEADER))
    _check_limits(request, context, stored, needed)


def _check_limits(
    request: Request, context: AppContext, key: ApiKey, needed: Sequence[str]
) -> None:
    if key.requests_per_minute is not None:
        _take_turn(context, key.id, key.requests_per_minute)
    scopes = request.state.key_scopes
    missing = next((scope for scope in needed if not allows(scopes, scope)), None)
    if missing is not None:
        who = "the key" if request.state.session is None else "this session of the key"
        raise MissingScope(
            f"This needs the scope '{missing}'; {who} '{key.prefix}...' has {', '.join(scopes)}."
        )


def _take_turn(context: AppContext, key: uuid.UUID, per_minute: int) -> None:
    allowance = context.rates.take(key, per_minute)
    if not allowance.allowed:
        wait = math.ceil(allowance.wait)
        raise TooManyRequests(
            f"This API key may make {per_minute} requests a minute. Come back in {wait} s.", wait
        )


async def _key_id(request: Request) -> uuid.UUID | None:
    return getattr(request.state, "key_id", None)


KeyId = Annotated[uuid.UUID | None, Depends(_key_id)]
"""Id of the request's API key, None in open mode; for endpoints that ask for a scope."""


@dataclass(frozen=True)
class Caller:
    """Who asks, for what belongs to somebody."""

    key: uuid.UUID | None
    """The API key; None in open mode."""
    administers: bool
    """Whether everything may be changed: an ``admin`` key, or anybody in open mode."""

    @property
    def name(self) -> str:
        """Id of the API key, or ``local`` in open mode."""
        return LOCAL if self.key is None else str(self.key)


async def _caller(request: Request) -> Caller:
    key = await _key_id(request)
    if key is None:
        return Caller(None, True)
    return Caller(key, allows(request.state.key_scopes or (), "admin"))


CallerDep = Annotated[Caller, Depends(_caller)]
"""For endpoints that ask for a scope."""

CanRead = Depends(Scope("read"))
CanInfer = Depends(Scope("infer"))
CanRun = Depends(Scope("run"))
CanAdminister = Depends(Scope("admin"))
ForAnybody = Depends(Anybody())
