"""/logout: the button of every page."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from service.edge.context import ContextDep, SessionDep
from service.pages.page import PageRouter
from service.pages.render import Links
from service.sessions.login import log_out

router = PageRouter()


@router.page("/logout", "login.html", method="POST")
def leave(request: Request, session: SessionDep, context: ContextDep) -> Response:
    response = RedirectResponse(Links(request.scope).url("/login"), 303)
    log_out(session, request, context, response)
    return response
