"""/keys: for administrators"""

from __future__ import annotations

import uuid
from functools import partial
from typing import Annotated

from fastapi import Path, Response

from monosemy.specs.rest.keys import KeyView, MadeKey, NewKey
from monosemy.specs.rest.page import Page
from service.edge.context import ContextDep, SessionDep
from service.edge.routing import ApiRouter
from service.keys import repository
from service.keys.authorize import CanAdminister
from service.keys.service import create_key, digest, require_key
from service.kit.pagination import DEFAULT_LIMIT, CursorParam, Limit, by_time, each, paged
from service.kit.problems import documented

router = ApiRouter(prefix="/keys", tags=["keys"], dependencies=[CanAdminister])


@router.get("", summary="List API keys", responses=documented(422))
def list_all(
    session: SessionDep, limit: Limit = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[KeyView]:
    """Newest first, those that were revoked or have expired too."""
    read = partial(repository.list_keys, session)
    return paged(("keys",), by_time(), cursor, limit, read, each(KeyView.model_validate))


@router.post("", status_code=201, summary="Make an API key", responses=documented(409, 422))
def make(session: SessionDep, context: ContextDep, body: NewKey) -> MadeKey:
    """The answer holds the key; it cannot be shown again. The first key of a server is made with
    `monosemy keys create`. 409 while another key of this name is not revoked."""
    key = create_key(
        session,
        body.name,
        body.scopes,
        context.settings.secret,
        body.expires_at,
        body.max_running,
        body.requests_per_minute,
    )
    stored = repository.by_digest(session, digest(key, context.settings.secret))
    return MadeKey(**KeyView.model_validate(stored).model_dump(), key=key)


@router.delete(
    "/{key}", status_code=204, summary="Revoke an API key", responses=documented(404, 422)
)
def revoke(
    session: SessionDep, key: Annotated[uuid.UUID, Path(description="Id of the key.")]
) -> Response:
    """At once, and for good; again changes nothing."""
    row = require_key(session, key)
    if row.revoked_at is None:
        repository.revoke(session, row)
    return Response(status_code=204)
