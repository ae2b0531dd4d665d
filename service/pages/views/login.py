"""/login: a browser shows an API key once, and goes on by a cookie."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Form, Query, Request
from starlette.responses import Response

from service.edge.context import ContextDep, SessionDep
from service.edge.origin import own_origin, safe_next
from service.edge.routing import body_limit
from service.keys.authorize import ForAnybody
from service.kit.errors import Conflict, TooManyRequests, Unauthenticated
from service.kit.problems import from_exception
from service.pages.page import PageRouter, go_on, shown
from service.sessions.cookies import cookie_for
from service.sessions.endpoints import LOGIN_BYTES
from service.sessions.login import InsecureLogin, insecure, log_in
from service.settings import Settings

TEMPLATE = "login.html"

router = PageRouter(ForAnybody)


@dataclass(frozen=True)
class Login:
    next: str
    open_mode: bool
    insecure: str | None
    """Why nobody can log in the way that the browser comes."""
    read_only: bool = False
    key_error: str | None = None
    error: str | None = None


@router.page("/login", TEMPLATE)
def login(
    request: Request,
    context: ContextDep,
    next_path: Annotated[str | None, Query(alias="next")] = None,
) -> Login:
    return _login(request, context.settings, next_path)


@router.page("/login", TEMPLATE, method="POST")
@body_limit(lambda _: LOGIN_BYTES)
def enter(
    request: Request,
    session: SessionDep,
    context: ContextDep,
    key: Annotated[str, Form()] = "",
    read_only: Annotated[str | None, Form()] = None,
    next_path: Annotated[str | None, Form(alias="next")] = None,
) -> Response:
    asked = replace(_login(request, context.settings, next_path), read_only=read_only is not None)
    if not key.strip() and not asked.open_mode:
        empty = replace(asked, key_error="Paste an API key: it begins with mnsy_.")
        return shown(request, TEMPLATE, empty, status=422)
    try:
        begun = log_in(session, request, context, key, asked.read_only)
    except Unauthenticated as error:
        wrong = replace(asked, key_error=str(error))
        return shown(request, TEMPLATE, wrong, status=401)
    except (Conflict, InsecureLogin, TooManyRequests) as error:
        problem = from_exception(error)
        refused = replace(asked, error=str(error))
        headers = dict(problem.headers or {})
        return shown(request, TEMPLATE, refused, status=problem.status_code, headers=headers)
    response = go_on(request, asked.next)
    begun.put_cookie(response)
    return response


def _login(request: Request, settings: Settings, next_path: str | None) -> Login:
    where = own_origin(settings, request.scope)
    closed = settings.require_keys and cookie_for(settings, request) is None
    return Login(
        next=safe_next(next_path),
        open_mode=not settings.require_keys,
        insecure=str(insecure(where)) if closed else None,
    )
