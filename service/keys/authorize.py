"""Dependencies that let a request through when its API key has the scope."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.database.session import transaction
from service.edge.context import AppContext, ContextDep
from service.keys.service import allows, is_well_formed, recognise
from service.kit.errors import MissingScope, TooManyRequests, Unauthenticated

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    description="`Authorization: Bearer mnsy_...`; asked for when the server requires keys."
    " The header `X-API-Key` serves as well.",
)
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
        context: ContextDep,
        credentials: Credentials,  # noqa: ARG002 - it is here for the OpenAPI document
    ) -> None:
        if self.needed not in getattr(request.state, "admitted", ()):
            await admit(request, context, [self.needed])


class Anybody:
    """``Depends(Anybody())``: a route for callers without a key."""

    async def __call__(self) -> None:
        """Nothing is asked."""


async def admit(request: Request, context: AppContext, needed: Sequence[str]) -> None:
    """Notes whose key the request bears and counts it once, whatever the number of scopes.

    ``Unauthenticated`` without a good key, ``TooManyRequests`` above its rate, ``MissingScope``
    where it lacks one of ``needed``.
    """
    request.state.key_id = request.state.key_prefix = None
    request.state.key_scopes = None
    if context.settings.require_keys:
        credentials = await _bearer(request)
        key = credentials.credentials if credentials else request.headers.get("x-api-key")
        # What is no key at all costs neither a thread nor a look into the database.
        if key is None:
            raise Unauthenticated("Send an API key: 'Authorization: Bearer mnsy_...'.")
        if not is_well_formed(key):
            raise Unauthenticated("This API key is unknown, revoked or expired.")
        await context.lanes.auth.run(partial(_check, request, context, key, needed))
    request.state.admitted = frozenset(needed)


def _check(request: Request, context: AppContext, key: str, needed: Sequence[str]) -> None:
    with transaction(context.engine) as session:
        stored = recognise(session, key, context.settings.secret)
    if stored is None:
        raise Unauthenticated("This API key is unknown, revoked or expired.")
    request.state.key_id, request.state.key_prefix = stored.id, stored.prefix
    request.state.key_scopes = stored.scopes
    if stored.requests_per_minute is not None:
        _take_turn(context, stored.id, stored.requests_per_minute)
    missing = next((scope for scope in needed if not allows(stored.scopes, scope)), None)
    if missing is not None:
        raise MissingScope(
            f"This needs the scope '{missing}'; the key '{stored.prefix}...' has"
            f" {', '.join(stored.scopes)}."
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
