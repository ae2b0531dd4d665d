"""GET /search"""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response
from pydantic import StringConstraints

from monosemy.specs.rest.search import SearchResults
from service.edge.context import ContextDep
from service.edge.routing import ApiRouter
from service.features.filters import Density, check_densities
from service.keys.authorize import CanRead, KeyId
from service.kit.problems import documented
from service.search.service import SearchQuery, find

router = ApiRouter(prefix="/search", tags=["search"], dependencies=[CanRead])

MAX_SAES = 50


@router.get(
    "", summary="Search features", response_model=SearchResults, responses=documented(404, 422)
)
async def search(
    context: ContextDep,
    key: KeyId,
    q: Annotated[
        str, Query(min_length=1, max_length=400, description="What the feature is to be about.")
    ],
    sae: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=200)]] | None,
        Query(max_length=MAX_SAES, description="Only these SAEs, by id or name; repeat it."),
    ] = None,
    model: Annotated[
        str | None, Query(max_length=400, description="Only SAEs of this host model, by name.")
    ] = None,
    min_density: Density = None,
    max_density: Density = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Most results.")] = 20,
    examples: Annotated[bool, Query(description="With the strongest example of each.")] = False,
) -> Response:
    """Explanations by meaning, explanations and evidence labels by words, joined by reciprocal rank
    fusion; by spelling too, where words find fewer than were asked for.  Without an embedder the
    answer is lexical, and says so."""
    check_densities(min_density, max_density)
    query = SearchQuery(q, sae, model, min_density, max_density, limit, examples)
    results = await find(context, key, query)
    return Response(results.model_dump_json(), media_type="application/json")
