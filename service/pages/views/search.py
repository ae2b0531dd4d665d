"""/search: features by what they are about, over all SAEs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query
from pydantic import StringConstraints
from starlette.concurrency import run_in_threadpool

from monosemy.specs.rest.search import SearchResults
from service.database.session import transaction
from service.edge.context import ContextDep
from service.features.filters import Density, check_densities
from service.keys.authorize import KeyId
from service.models.endpoints import list_host_models
from service.pages.page import PageRouter
from service.saes.endpoints import list_all
from service.search.endpoints import MAX_SAES
from service.search.service import SearchQuery, find

router = PageRouter()

_HITS = 30
_CHOICE = 100
"""SAEs and models to choose from; others can be named in the address."""


@dataclass(frozen=True)
class Search:
    q: str | None
    found: SearchResults | None
    chosen: list[str]
    saes: list[str]
    model: str | None
    models: list[str]
    min_density: float | None
    max_density: float | None
    why: dict[str, str]


_WHY = {"vector": "meaning", "words": "words", "similar": "spelling"}


@router.page("/search", "search.html")
async def search(
    context: ContextDep,
    key: KeyId,
    q: Annotated[str | None, Query(max_length=400)] = None,
    sae: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=200)]] | None,
        Query(max_length=MAX_SAES),
    ] = None,
    model: Annotated[str | None, Query(max_length=400)] = None,
    min_density: Density = None,
    max_density: Density = None,
) -> Search:
    check_densities(min_density, max_density)
    text = (q or "").strip()
    found = None
    if text:
        query = SearchQuery(text, sae, model, min_density, max_density, _HITS, examples=True)
        found = await find(context, key, query)
    saes, models = await run_in_threadpool(_choice, context)
    return Search(
        q=text or None,
        found=found,
        chosen=sae or [],
        saes=list(dict.fromkeys([*(sae or []), *saes])),
        model=model,
        models=list(dict.fromkeys([*([model] if model else []), *models])),
        min_density=min_density,
        max_density=max_density,
        why=_WHY,
    )


def _choice(context: Any) -> tuple[list[str], list[str]]:
    with transaction(context.engine) as session:
        saes = [each.name for each in list_all(session, limit=_CHOICE).items]
        models = [each.name for each in list_host_models(session, _CHOICE, None).items]
        return saes, models
