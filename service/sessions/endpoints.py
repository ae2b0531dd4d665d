"""/sessions: a browser logs in and out"""

from __future__ import annotations

import uuid
from functools import partial
from typing import Annotated

from fastapi import Path, Request, Response

from monosemy.specs.rest.page import Page
from monosemy.specs.rest.sessions import MadeSession, NewSession, SessionView
from service.database.session_tables import BrowserSession
from service.edge.context import ContextDep, SessionDep
from service.edge.routing import ApiRouter, body_limit
from service.keys.authorize import CallerDep, CanRead, ForAnybody, KeyId
from service.kit.pagination import DEFAULT_LIMIT, CursorParam, Limit, by_time, each, paged
from service.kit.problems import documented
from service.sessions import login, repository

LOGIN_BYTES = 8 * 1024

router = ApiRouter(prefix="/sessions", tags=["sessions"])


@router.post(
    "",
    status_code=201,
    summary="Log a browser in",
    dependencies=[ForAnybody],
    responses=documented(409, 422, 429),
)
@body_limit(lambda _: LOGIN_BYTES)
def begin(
    request: Request, session: SessionDep, context: ContextDep, response: Response, body: NewSession
) -> MadeSession:
    """Takes an API key and sets a cookie that stands for it: by https, or on the server's own
    machine. It ends with the key, after 12 hours without use, and after 7 days. What the cookie is
    sent with must come from a page of this server (`Origin`) and, where it may change something,
    show the token. A session that the browser has already is replaced."""
    key = body.key.get_secret_value()
    begun = login.log_in(session, request, context, key, body.read_only)
    begun.put_cookie(response)
    view = _view(begun.row, begun.row.id)
    return MadeSession(**view.model_dump(), csrf_token=begun.csrf)


@router.get("", summary="List sessions", dependencies=[CanRead], responses=documented(422))
def list_all(
    request: Request,
    session: SessionDep,
    key: KeyId,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[SessionView]:
    """Those of the caller's API key that have not ended, newest first; none in open mode."""
    if key is None:
        return Page(items=[], next_cursor=None)
    read = partial(repository.list_sessions, session, key)
    show = each(partial(_view, current=_current(request)))
    return paged(("sessions", str(key)), by_time(), cursor, limit, read, show)


@router.delete("/current", status_code=204, summary="Log the browser out", dependencies=[CanRead])
def end_current(request: Request, session: SessionDep, context: ContextDep) -> Response:
    """Ends the session that the request came by, and has the browser forget it. A request that came
    by none changes nothing."""
    response = Response(status_code=204)
    login.log_out(session, request, context, response)
    return response


@router.delete(
    "/{session_id}",
    status_code=204,
    summary="End a session",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def end(
    request: Request,
    session: SessionDep,
    context: ContextDep,
    caller: CallerDep,
    session_id: Annotated[uuid.UUID, Path(description="Id of the session.")],
) -> Response:
    """At once; of the caller's own API key, or with `admin` of any."""
    response = Response(status_code=204)
    login.end(session, request, context, caller, session_id, response)
    return response


def _current(request: Request) -> uuid.UUID | None:
    current = getattr(request.state, "session", None)
    return None if current is None else current.id


def _view(row: BrowserSession, current: uuid.UUID | None) -> SessionView:
    return SessionView(
        id=row.id,
        current=row.id == current,
        scopes=row.scopes,
        client=row.client,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        idle_at=min(row.last_used_at + repository.IDLE, row.expires_at),
        expires_at=row.expires_at,
    )
