"""/settings/keys: API keys, for who administers; the sessions of one's own."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Form, Path, Request
from pydantic import ValidationError
from sqlalchemy.orm import Session
from starlette.responses import Response

from monosemy.specs.rest.keys import KeyView, MadeKey, NewKey
from monosemy.specs.rest.sessions import SessionView
from service.edge.context import AppContext, ContextDep, SessionDep
from service.keys import endpoints as keys
from service.keys.authorize import CallerDep, CanAdminister, KeyId
from service.keys.service import SCOPES, require_key, why_no_keys
from service.kit.errors import Conflict, InvalidRequest, Misconfigured
from service.kit.pagination import DEFAULT_LIMIT, MAX_LIMIT, CursorParam
from service.pages.page import PageRouter, go_to, shown
from service.pages.viewer import viewer_of
from service.sessions import endpoints as sessions
from service.sessions import login

HOME = "/settings/keys"
TEMPLATE = "keys.html"
MOST_DAYS = 36_500
SCOPES_SAY = {
    "read": "see everything that is stored",
    "infer": "that, and have texts read and written",
    "run": "that, and submit runs, tag, explain, make lists",
    "admin": "everything: keys, queues, deleting, others' things",
}
assert tuple(SCOPES_SAY) == SCOPES
_FIELDS = {"scopes": "scope", "expires_at": "days"}
"""What the form calls fields of ``NewKey`` where it does not call them the same."""

KeyIdInPath = Annotated[uuid.UUID, Path(alias="key", description="Id of the key.")]

router = PageRouter()


@dataclass(frozen=True)
class Keys:
    keys: list[KeyView] | None
    """None for who may not see them."""
    next_cursor: str | None
    own: uuid.UUID | None
    """The key that the viewer came by."""
    sessions: list[SessionView]
    now: dt.datetime
    why_none: str | None
    """Why no key can be made."""
    scopes: Mapping[str, str] = field(default_factory=lambda: SCOPES_SAY)
    given: Mapping[str, str] = field(default_factory=dict)
    """What the form was sent with."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """By the form's field; empty for what is of none."""
    made: MadeKey | None = None


@router.page(HOME, TEMPLATE)
def show(
    request: Request,
    session: SessionDep,
    context: ContextDep,
    key: KeyId,
    cursor: CursorParam = None,
) -> Keys:
    return _keys(request, session, context, key, cursor)


@router.page(HOME, TEMPLATE, method="POST", needs=CanAdminister)
def make(
    request: Request,
    session: SessionDep,
    context: ContextDep,
    own: KeyId,
    name: Annotated[str, Form()] = "",
    scope: Annotated[str, Form()] = "read",
    days: Annotated[str, Form()] = "",
    max_running: Annotated[str, Form()] = "",
    requests_per_minute: Annotated[str, Form()] = "",
) -> Response:
    given = {
        "name": name,
        "scope": scope,
        "days": days,
        "max_running": max_running,
        "requests_per_minute": requests_per_minute,
    }
    wanted, errors = _wanted(given)
    made = None
    if wanted is not None:
        try:
            made = keys.make(session, context, wanted)
        except InvalidRequest as error:
            errors = {_FIELDS.get(path, path): message for path, message in error.problems}
        except Conflict as error:
            errors = {"name": str(error)}
        except Misconfigured as error:  # a server without a secret makes none
            errors = {"": str(error)}
    values = _keys(request, session, context, own, None, made=made, **_refused(given, errors))
    # The key is shown this once: no cache keeps it.
    return shown(
        request,
        TEMPLATE,
        values,
        status=422 if errors else 201,
        headers={"Cache-Control": "no-store"},
    )


@dataclass(frozen=True)
class Revoking:
    key: KeyView
    is_own: bool


@router.page(HOME + "/{key}/revoke", "revoke_key.html", needs=CanAdminister)
def ask(session: SessionDep, key: KeyIdInPath, own: KeyId) -> Revoking:
    return Revoking(KeyView.model_validate(require_key(session, key)), key == own)


@router.page(HOME + "/{key}/revoke", "revoke_key.html", method="POST", needs=CanAdminister)
def revoke(request: Request, session: SessionDep, key: KeyIdInPath) -> Response:
    keys.revoke(session, key)
    return _back(request)


@router.page("/settings/sessions/{session_id}/end", TEMPLATE, method="POST")
def end_session(
    request: Request,
    session: SessionDep,
    context: ContextDep,
    caller: CallerDep,
    session_id: Annotated[uuid.UUID, Path(description="Id of the session.")],
) -> Response:
    response = _back(request)
    login.end(session, request, context, caller, session_id, response)
    return response


def _back(request: Request) -> Response:
    return go_to(request, HOME)


def _keys(
    request: Request,
    session: Session,
    context: AppContext,
    own: uuid.UUID | None,
    cursor: str | None,
    **more: Any,
) -> Keys:
    seen, next_cursor = None, None
    if viewer_of(request).can("admin"):
        page = keys.list_all(session, DEFAULT_LIMIT, cursor)
        seen, next_cursor = page.items, page.next_cursor
    return Keys(
        keys=seen,
        next_cursor=next_cursor,
        own=own,
        sessions=sessions.list_all(request, session, own, MAX_LIMIT).items,
        now=dt.datetime.now(dt.UTC),
        why_none=why_no_keys(context.settings.secret),
        **more,
    )


def _refused(given: dict[str, str], errors: dict[str, str]) -> dict[str, Any]:
    return {"given": given, "errors": errors} if errors else {}


def _wanted(given: dict[str, str]) -> tuple[NewKey | None, dict[str, str]]:
    """The key that the form asks for, or what is wrong, by field."""
    errors: dict[str, str] = {}
    numbers: dict[str, int | None] = {}
    for name in ("days", "max_running", "requests_per_minute"):
        text = given[name].strip()
        if text and not (text.isascii() and text.isdecimal() and len(text) <= 9):
            errors[name] = "Give a whole number, or leave it empty."
        else:
            numbers[name] = int(text) if text else None
    days = numbers.pop("days", None)
    if days is not None and not 1 <= days <= MOST_DAYS:
        errors["days"] = f"Give 1 to {MOST_DAYS} days, or leave it empty."
    if errors:
        return None, errors
    expires = None if days is None else dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    fields = {"name": given["name"], "scopes": [given["scope"]], "expires_at": expires, **numbers}
    try:
        return NewKey.model_validate(fields), {}
    except ValidationError as error:
        for each in error.errors():
            place = str(each["loc"][0])
            errors[_FIELDS.get(place, place)] = each["msg"].removeprefix("Value error, ")
        return None, errors
