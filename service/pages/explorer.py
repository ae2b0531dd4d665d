"""The explorer as a whole: every module of ``views`` and what it takes to serve them."""

from __future__ import annotations

import importlib
import pkgutil

from fastapi import FastAPI
from fastapi.routing import APIRoute

from service.pages import static, views
from service.pages.errors import problem_page
from service.pages.page import PageRouter, entries_of, page_routes


def routers() -> list[PageRouter]:
    """Of every module of ``service.pages.views``, in the order of their names."""
    names = sorted(module.name for module in pkgutil.iter_modules(views.__path__))
    modules = [importlib.import_module(f"{views.__name__}.{name}") for name in names]
    return [module.router for module in modules]


def install(app: FastAPI) -> None:
    """Adds the pages to ``app``.  Raises ``ValueError`` for pages that are in each other's way."""
    parts = routers()
    app.state.navigation = entries_of(parts)
    app.state.problem_page = problem_page
    app.router.routes.extend(static.router.routes)
    # A fixed word goes before a name, whichever module has it: /saes/upload before /saes/{sae}.
    # As they are: a router around them would have FastAPI look through every view once more.
    app.router.routes.extend(in_order(parts))


def in_order(parts: list[PageRouter]) -> list[APIRoute]:
    """The pages in the order in which addresses are looked up."""
    return sorted(page_routes(parts), key=lambda route: [*map(_openness, route.path.split("/"))])


def _openness(part: str) -> int:
    """0 for a fixed word, 1 for a name with something fixed about it, 2 for a name."""
    if "{" not in part:
        return 0
    return 2 if part.startswith("{") and part.endswith("}") else 1
