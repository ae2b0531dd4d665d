"""/logout: the button of every page."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from service.edge.context import ContextDep, SessionDep
from service.pages.page import PageRouter, go_to
from service.sessions.login import log_out

router = PageRouter()


@router.page("/logout", "login.html", method="POST")
def leave(request: Request, session: SessionDep, context: ContextDep) -> Response:
    response = go_to(request, "/login")
    log_out(session, request, context, response)
    return response
