"""GET /search"""

from __future__ import annotations

import logging
import uuid
from typing import Annotated, Literal

from fastapi import Query, Response
from pydantic import StringConstraints
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from monosemy.specs.rest.features import ExplanationBrief, ScoreBrief
from monosemy.specs.rest.search import Matcher, SearchHit, SearchResults
from service.database.session import transaction
from service.edge.context import ContextDep
from service.edge.routing import Router
from service.features.columns import facts_of
from service.features.endpoints import Density, check_densities
from service.keys.authorize import CanRead, KeyId
from service.kit.problems import documented
from service.saes.repository import find_sae, ids_of_model
from service.search.embed import embed_in_turn
from service.search.fusion import Fused, fuse
from service.search.repository import (
    FeatureKey,
    Scope,
    by_meaning,
    by_spelling,
    by_words,
    describe,
)

router = Router(prefix="/search", tags=["search"], dependencies=[CanRead])
logger = logging.getLogger(__name__)

MAX_SAES = 50

_MATCHERS: dict[str, Matcher] = {
    "vector": "vector",
    "words explanations": "words",
    "words labels": "words",
    "similar explanations": "similar",
    "similar labels": "similar",
}


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
) -> Response:
    """Explanations by meaning, explanations and evidence labels by words, joined by reciprocal rank
    fusion; by spelling too, where words find fewer than were asked for.  Without an embedder the
    answer is lexical, and says so."""
    check_densities(min_density, max_density)
    # The model is asked before a thread or a connection is taken: it may take its time.
    embedding, reason = await embed_in_turn(context, key, q)

    def find() -> str:
        with transaction(context.engine) as session:
            scope = Scope(_saes_of(session, sae, model), min_density, max_density)
            items = _found(session, q, scope, embedding, limit)
        mode: Literal["lexical", "hybrid"] = "lexical" if embedding is None else "hybrid"
        found = SearchResults(query=q, mode=mode, reason=reason, items=items)
        return found.model_dump_json()

    return Response(await run_in_threadpool(find), media_type="application/json")


def _found(
    session: Session, q: str, scope: Scope, embedding: list[float] | None, limit: int
) -> list[SearchHit]:
    """The best ``limit`` features of all ways to look for them."""
    lists: dict[str, list[FeatureKey]] = {}
    if embedding is not None:
        lists["vector"] = by_meaning(session, embedding, scope)
    for name, found in by_words(session, q, scope).items():
        lists[f"words {name}"] = found
    if len({key for name in lists if name != "vector" for key in lists[name]}) < limit:
        for name, found in by_spelling(session, q, scope).items():
            lists[f"similar {name}"] = found
    return _hits(session, fuse(lists)[:limit])


def _saes_of(
    session: Session, names: list[str] | None, model: str | None
) -> list[uuid.UUID] | None:
    """Ids of the SAEs that are to be searched; None stands for all."""
    if names is None and model is None:
        return None
    of_model = None if model is None else ids_of_model(session, model)
    if names is None:
        return of_model
    named = list(dict.fromkeys(find_sae(session, name)[0].id for name in names))
    return named if of_model is None else [each for each in named if each in of_model]


def _hits(session: Session, ranked: list[Fused[FeatureKey]]) -> list[SearchHit]:
    rows = describe(session, [item.key for item in ranked])
    hits = []
    for item in ranked:
        row = rows.get(item.key)
        if row is None:  # an explanation whose feature was indexed away
            continue
        sae, feature, heading, explanation, score = row
        hits.append(
            SearchHit(
                sae_id=str(sae.id),
                sae=sae.name,
                **facts_of(feature, SearchHit.model_fields),
                heading=heading,
                explanation=explanation and ExplanationBrief.model_validate(explanation),
                score=score and ScoreBrief.model_validate(score),
                rank_score=round(item.score, 6),
                matched=list(dict.fromkeys(_MATCHERS[name] for name in item.lists)),
            )
        )
    return hits
