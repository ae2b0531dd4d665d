"""Templates and what every page has: links, navigation, who looks, headers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse
from starlette.types import Scope

from monosemy.interp import strata as stratum_names
from monosemy.specs.rest.saes import SaeFiles
from service.kit.query_names import names_in_query
from service.pages import charts, format, tokens
from service.pages.navigation import Nav, menus
from service.pages.static import static_path
from service.pages.viewer import Viewer, viewer_of
from service.saes.files import missing_files, missing_words
from service.version import version

PAGE_ENDPOINT = "shows_a_page"
"""Set on the endpoints of pages."""
THEME_COOKIE = "monosemy_theme"
THEMES = ("light", "dark")

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    # With no-referrer a browser would post our own forms with the origin "null".
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}

_environment = Environment(
    loader=PackageLoader("service.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_environment.filters.update(format.FILTERS, visible=tokens.shown, shell=tokens.for_shell)
_environment.globals.update(
    charts=charts, stratum_names=stratum_names, tokens=tokens, version=version()
)


def rendered(
    request: Request,
    template: str,
    values: Mapping[str, Any],
    *,
    script: str | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """``template`` as a page; ``values`` are its own variables."""
    links = Links(request.scope)
    viewer = viewer_of(request)
    context = {
        **values,
        "url": links.url,
        "here": links.here,
        "there": links.there,
        "carried": links.carried,
        "static": links.static,
        "root": links.root,
        "script": script,
        "viewer": viewer,
        "theme": _theme(request),
        "navigation": _navigation(request, viewer),
        "path": links.path,
        "unknown_names": _unknown_names(request),
        "lacks": partial(_lacks, request),
    }
    text = _environment.get_template(template).render(context)
    return HTMLResponse(text, status, {**PAGE_HEADERS, **(headers or {})})


def whole(template: str, values: Mapping[str, Any]) -> str:
    """``template`` without the surroundings of a page: for files, which have no navigation and
    whose links are given."""
    return _environment.get_template(template).render(values)


def fragment(template: str, macro: str, *values: Any) -> str:
    """What ``macro`` of ``template`` makes, for tests and exports."""
    module = _environment.get_template(template).module
    return str(getattr(module, macro)(*values))


class Links:
    """Addresses as the browser needs them: below the prefix that a proxy serves us under."""

    def __init__(self, scope: Scope) -> None:
        self.root: str = scope.get("root_path", "").rstrip("/")
        path: str = scope["path"]
        self.path = path.removeprefix(self.root) if self.root else path
        self._query: str = scope.get("query_string", b"").decode("latin-1")

    def url(self, path: str, /, **query: Any) -> str:
        """``path`` begins with ``/``; what is None is left out of the query, lists are repeated."""
        pairs = [
            (name, each)
            for name, value in query.items()
            for each in (value if isinstance(value, list | tuple) else [value])
            if each is not None and each != ""
        ]
        shown = [(name, _plain(value)) for name, value in pairs]
        return (
            self.root + quote(path, safe="/:@!$&'()*+,;=~") + (f"?{urlencode(shown)}" * bool(shown))
        )

    def static(self, name: str) -> str:
        return self.root + static_path(name)

    def here(self, **changes: Any) -> str:
        """This page's address with other values in its query; None takes a name out."""
        return self.there(self.path, **changes)

    def there(self, path: str, /, **changes: Any) -> str:
        """Another page's address with this page's query, but for ``changes``."""
        kept = [
            (name, value)
            for name, value in parse_qsl(self._query, keep_blank_values=True)
            if name not in changes
        ]
        query: dict[str, Any] = {}
        for name, value in kept:
            query.setdefault(name, []).append(value)
        return self.url(path, **query, **changes)

    def carried(self, *without: str) -> list[tuple[str, str]]:
        """What this page's query has besides ``without``, for the hidden fields of a form."""
        pairs = parse_qsl(self._query, keep_blank_values=True)
        return [(name, value) for name, value in pairs if name not in without]


def links_of(request: Request) -> Links:
    return Links(request.scope)


LinksDep = Annotated[Links, Depends(links_of)]
"""For a view that makes addresses itself."""


def is_page(scope: Scope) -> bool:
    """Whether the request reached a page."""
    return bool(getattr(scope.get("endpoint"), PAGE_ENDPOINT, False))


def _lacks(request: Request, sae: Any, *parts: SaeFiles) -> str:
    """What is missing of the files of ``sae``, a row or view of one, in words; of ``parts`` alone
    where they are given."""
    artifacts = request.app.state.context.settings.artifacts
    missing = missing_files(artifacts, sae.path, sae.index)
    return missing_words(sae.name, [each for each in missing if each in parts or not parts])


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _theme(request: Request) -> str:
    theme = request.cookies.get(THEME_COOKIE, "")
    return theme if theme in THEMES else ""


def _navigation(request: Request, viewer: Viewer) -> list[tuple[Nav, list[Nav]]]:
    entries = getattr(request.app.state, "navigation", [])
    return menus([entry for entry in entries if viewer.can(entry.scope)])


def _unknown_names(request: Request) -> list[str]:
    """Names in the query that the page does not know: told, not refused."""
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return []
    return sorted(name[:100] for name in set(request.query_params) - names_in_query(route))[:5]
