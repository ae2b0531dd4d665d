"""Errors as pages, for browsers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import Request
from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from service.kit.problems import Problem
from service.pages.render import Links, is_page, rendered

_LOGIN = "/login"


def problem_page(scope: Scope, problem: Problem, request_id: str | None) -> Response | None:
    """The problem as a page; None where a program asked, which gets it as JSON.

    Who has no session is sent to the login, and comes back from there.
    """
    if not _wants_page(scope):
        return None
    links = Links(scope)
    if problem.status_code == 401 and scope["method"] in ("GET", "HEAD"):
        query = scope.get("query_string", b"").decode("latin-1")
        back = links.path + (f"?{query}" if query else "")
        return RedirectResponse(f"{links.root}{_LOGIN}?next={quote(back, safe='')}", 303)
    values: dict[str, Any] = {"problem": problem, "request_id": request_id}
    headers = dict(problem.headers or {})
    return rendered(
        Request(scope), "problem.html", values, status=problem.status_code, headers=headers
    )


def _wants_page(scope: Scope) -> bool:
    """Where no route was reached it goes by what the client says that it reads."""
    reads_html = "text/html" in Headers(scope=scope).get("accept", "")
    return reads_html and (scope.get("route") is None or is_page(scope))
