"""Errors as pages, for browsers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from monosemy.errors import MonosemyError
from service.keys.authorize import admit, is_asked
from service.kit.problems import Problem
from service.pages.page import go_to
from service.pages.render import Links, is_page, rendered


async def problem_page(scope: Scope, problem: Problem, request_id: str | None) -> Response | None:
    """The problem as a page, with what its viewer may go to; None where a program asked, which
    gets it as JSON.

    Who has no session is sent to the login, and comes back from there.
    """
    if not _wants_page(scope):
        return None
    request = Request(scope)
    if problem.status_code == 401 and scope["method"] in ("GET", "HEAD"):
        query = scope.get("query_string", b"").decode("latin-1")
        back = Links(scope).path + (f"?{query}" if query else "")
        return go_to(request, "/login", next=back)
    await _know_viewer(request)
    values: dict[str, Any] = {"problem": problem, "request_id": request_id}
    headers = dict(problem.headers or {})
    return rendered(request, "problem.html", values, status=problem.status_code, headers=headers)


async def _know_viewer(request: Request) -> None:
    """Where no route was reached, nobody has looked whose request it is."""
    if not is_asked(request):
        # The page is about another problem: without a viewer it has no navigation.
        with suppress(MonosemyError, SQLAlchemyError):
            await admit(request, request.app.state.context, [])


def _wants_page(scope: Scope) -> bool:
    """Where no route was reached it goes by what the client says that it reads."""
    reads_html = "text/html" in Headers(scope=scope).get("accept", "")
    return reads_html and (scope.get("route") is None or is_page(scope))
