"""A parameter that an address does not know is refused: a filter misspelt would filter nothing."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from fastapi import Depends, Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import ParamTypes
from fastapi.routing import APIRoute

from service.kit.errors import InvalidRequest

_MOST_NAMED = 20
_names: dict[int, frozenset[str]] = {}


async def known_query_names(request: Request) -> None:
    """A dependency of every route.  Raises 422 that names each unknown parameter."""
    route: Any = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    known = names_in_query(route)
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        raise InvalidRequest([(name[:100], _advice(name, known)) for name in unknown[:_MOST_NAMED]])


KnownQueryNames = Depends(known_query_names)


def names_in_query(route: APIRoute) -> frozenset[str]:
    """The parameters that a route takes in its query."""
    return _names.setdefault(id(route), _query_names(route))


def _query_names(route: APIRoute) -> frozenset[str]:
    fields = get_flat_params(route.dependant)
    kinds = ((field.alias, getattr(field.field_info, "in_", None)) for field in fields)
    return frozenset(name for name, kind in kinds if kind == ParamTypes.query)


def _advice(name: str, known: frozenset[str]) -> str:
    close = get_close_matches(name, known, n=1)
    if close:
        return f"unknown parameter; did you mean '{close[0]}'?"
    if not known:
        return "unknown parameter; this address takes none"
    return f"unknown parameter; known: {', '.join(sorted(known))}"
