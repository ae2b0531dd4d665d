"""How a page is declared: a function whose answer a template shows.

    router = PageRouter()

    @dataclass(frozen=True)
    class Colours:
        names: list[str]

    @router.page("/colours", "colours.html", nav=Nav("Colours", 90))
    def colours(session: SessionDep) -> Colours:
        return Colours(["blue"])

A module of ``service.pages.views`` that has a ``router`` is a part of the explorer; nothing else
lists it.  docs/pages.md has the whole.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, get_type_hints

from fastapi import Request
from fastapi.params import Depends
from fastapi.routing import APIRoute
from starlette.responses import RedirectResponse, Response

from service.edge.origin import READING_METHODS
from service.edge.routing import GuardedRoute, Handler, Router, form_post
from service.keys.authorize import CanRead
from service.pages.navigation import Nav
from service.pages.render import PAGE_ENDPOINT, Links, rendered

View = TypeVar("View", bound=Callable[..., Any])
_REQUEST = "page_request"
"""Parameter that has the request where the view asks for none."""


class PageRoute(GuardedRoute):
    """A browser sends every field of a form: those that were left empty are taken out of the
    query, as if they had not been sent."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def without_blanks(request: Request) -> Response:
            parts = request.scope.get("query_string", b"").split(b"&")
            filled = b"&".join(part for part in parts if part.partition(b"=")[2])
            request.scope["query_string"] = filled
            return await handle(Request(request.scope, request.receive))

        return without_blanks


class PageRouter(Router):
    """Routes of pages.  ``needs``: the scope that all of them ask for (``CanRead``)."""

    def __init__(self, needs: Depends | None = None) -> None:
        super().__init__(
            include_in_schema=False, dependencies=[needs or CanRead], route_class=PageRoute
        )
        self.entries: list[Nav] = []

    def page(
        self,
        path: str,
        template: str,
        *,
        nav: Nav | None = None,
        script: str | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        needs: Depends | None = None,
    ) -> Callable[[View], View]:
        """Serves ``template``, given the fields of the dataclass that the function returns.

        The function takes what endpoints of FastAPI take.  A ``Response`` that it returns is sent
        as it is, such as a redirect.  ``script``: a module under ``static/`` that makes the page
        live; the page must read well without it.  ``needs``: a scope beyond the router's.

        What is posted to a page is a form: it shows a session's token in its field ``csrf``.
        """
        if nav is not None:
            self.entries.append(replace(nav, path=path))

        def declare(view: View) -> View:
            endpoint = _endpoint(view, template, script, dict(headers or {}))
            if method not in READING_METHODS:
                endpoint = form_post(endpoint)
            self.add_api_route(
                path,
                endpoint,
                methods=[method],
                response_class=Response,
                dependencies=[needs] if needs else None,
            )
            return view

        return declare


def _endpoint(
    view: Callable[..., Any], template: str, script: str | None, headers: dict[str, str]
) -> Callable[..., Any]:
    """``view`` with the page in place of its answer."""

    def finish(request: Request, answer: Any) -> Response:
        if isinstance(answer, Response):
            return answer
        if not is_dataclass(answer):
            raise TypeError(f"{view.__qualname__} must return a dataclass or a Response")
        return shown(request, template, answer, script=script, headers=headers)

    hints = get_type_hints(view, include_extras=True)
    # FastAPI gives the request to one parameter alone: the view's own, if it has one.
    taken = next((name for name, hint in hints.items() if hint is Request), None)

    def asked_by(values: dict[str, Any]) -> Request:
        return values[taken] if taken else values.pop(_REQUEST)  # type: ignore[no-any-return]

    if inspect.iscoroutinefunction(view):

        @functools.wraps(view)
        async def endpoint(**values: Any) -> Response:
            request = asked_by(values)
            return finish(request, await view(**values))
    else:

        @functools.wraps(view)
        def endpoint(**values: Any) -> Response:
            request = asked_by(values)
            return finish(request, view(**values))

    given = [
        parameter.replace(
            annotation=hints.get(name, parameter.annotation), kind=inspect.Parameter.KEYWORD_ONLY
        )
        for name, parameter in inspect.signature(view).parameters.items()
    ]
    if taken is None:
        given.insert(
            0, inspect.Parameter(_REQUEST, inspect.Parameter.KEYWORD_ONLY, annotation=Request)
        )
    endpoint.__signature__ = inspect.Signature(given)  # type: ignore[attr-defined]
    setattr(endpoint, PAGE_ENDPOINT, True)
    return endpoint


def shown(request: Request, template: str, view: Any, **how: Any) -> Response:
    """``template``, given the fields of the dataclass ``view``; ``how`` as of ``rendered``.  For
    what is no plain success: a form with its errors has a ``status``."""
    values = {field.name: getattr(view, field.name) for field in fields(view)}
    return rendered(request, template, values, **how)


def go_to(request: Request, path: str, **query: Any) -> RedirectResponse:
    """Where a form that went well leads: ``path`` of ours, asked for by GET (303)."""
    return RedirectResponse(Links(request.scope).url(path, **query), 303)


def go_on(request: Request, address: str) -> RedirectResponse:
    """The same for a path of ours that is encoded already, its query with it."""
    return RedirectResponse(Links(request.scope).root + address, 303)


def entries_of(routers: list[PageRouter]) -> list[Nav]:
    """The navigation.  Raises ``ValueError`` where two pages want the same place or key, or one
    stands below an entry that is not there or stands below another itself."""
    entries = sorted(
        (entry for router in routers for entry in router.entries), key=lambda entry: entry.place
    )
    for name in ("place", "key"):
        values = [value for entry in entries if (value := getattr(entry, name)) is not None]
        double = next((value for value in values if values.count(value) > 1), None)
        if double is not None:
            raise ValueError(f"two pages of the navigation have the {name} {double!r}")
    heads = {entry.title for entry in entries if not entry.below}
    lost = next((entry for entry in entries if entry.below and entry.below not in heads), None)
    if lost is not None:
        raise ValueError(f"{lost.title} stands below {lost.below!r}, which is no entry of its own")
    return entries


def page_routes(routers: list[PageRouter]) -> list[APIRoute]:
    return [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
