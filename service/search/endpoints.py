"""GET /search"""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from service.context import ContextDep
from service.database.session import transaction
from service.features.schemas import ExplanationBrief, ScoreBrief
from service.keys.authorize import CanRead
from service.problems import documented
from service.saes.repository import find_sae
from service.search.embed import embed_text
from service.search.fusion import Fused, fuse
from service.search.repository import FeatureKey, by_meaning, by_spelling, by_words, describe
from service.search.schemas import Matcher, SearchHit, SearchResults

router = APIRouter(prefix="/search", tags=["search"], dependencies=[CanRead])
logger = logging.getLogger(__name__)

_MATCHERS: dict[str, Matcher] = {
    "vector": "vector",
    "words explanations": "words",
    "words labels": "words",
    "similar explanations": "similar",
    "similar labels": "similar",
}


@router.get("", summary="Search features", responses=documented(404, 422))
def search(
    context: ContextDep,
    q: Annotated[
        str, Query(min_length=1, max_length=400, description="What the feature is to be about.")
    ],
    sae: Annotated[
        str | None, Query(max_length=200, description="Only this SAE, by id or name.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Most results.")] = 20,
) -> SearchResults:
    """Explanations by meaning, explanations and evidence labels by words and by spelling, joined by
    reciprocal rank fusion.  Without an embedder the answer is lexical, and says so."""
    # The model is asked before a transaction opens: it may take its time.
    embedding, reason = embed_text(context, q)
    with transaction(context.engine) as session:
        only = find_sae(session, sae)[0].id if sae is not None else None
        lists: dict[str, list[FeatureKey]] = {}
        if embedding is not None:
            lists["vector"] = by_meaning(session, embedding, only)
        for name, found in by_words(session, q, only).items():
            lists[f"words {name}"] = found
        for name, found in by_spelling(session, q, only).items():
            lists[f"similar {name}"] = found
        items = _hits(session, fuse(lists)[:limit])
    mode = "lexical" if embedding is None else "hybrid"
    return SearchResults(query=q, mode=mode, reason=reason, items=items)


def _hits(session: Session, ranked: list[Fused[FeatureKey]]) -> list[SearchHit]:
    rows = describe(session, [item.key for item in ranked])
    hits = []
    for item in ranked:
        row = rows.get(item.key)
        if row is None:  # an explanation whose feature was indexed away
            continue
        sae, feature, explanation, score = row
        hits.append(
            SearchHit(
                sae_id=str(sae.id),
                sae=sae.name,
                index=feature.index,
                label=feature.label,
                density=feature.density,
                max_activation=feature.max_activation,
                explanation=explanation and ExplanationBrief.model_validate(explanation),
                score=score and ScoreBrief.model_validate(score),
                rank_score=round(item.score, 6),
                matched=list(dict.fromkeys(_MATCHERS[name] for name in item.lists)),
            )
        )
    return hits
