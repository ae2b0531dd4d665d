"""The explorer as a whole: every module of ``views`` and what it takes to serve them."""

from __future__ import annotations

import importlib
import pkgutil

from fastapi import FastAPI

from service.pages import static, views
from service.pages.errors import problem_page
from service.pages.page import PageRouter, entries_of


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
    app.include_router(static.router)
    for part in parts:
        app.include_router(part)
