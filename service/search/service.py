"""A search: what all ways to look for features find, in one order."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from monosemy.index.example_bytes import examples_from_bytes
from monosemy.specs.rest.features import ExampleView, ExplanationBrief, ScoreBrief
from monosemy.specs.rest.search import Matcher, SearchHit, SearchResults
from service.database.session import transaction
from service.edge.context import AppContext
from service.features.columns import facts_of
from service.features.examples import view_examples
from service.features.repository import contexts_of
from service.models.repository import find_model
from service.models.tokens import TokenTables
from service.saes.repository import find_sae, ids_of_model
from service.search.embed import embed_in_turn
from service.search.fusion import Fused, fuse
from service.search.repository import (
    FeatureKey,
    FeatureRow,
    Scope,
    by_meaning,
    by_spelling,
    by_words,
    describe,
)

_MATCHERS: dict[str, Matcher] = {
    "vector": "vector",
    "words explanations": "words",
    "words labels": "words",
    "similar explanations": "similar",
    "similar labels": "similar",
}


@dataclass(frozen=True)
class SearchQuery:
    text: str
    saes: Sequence[str] | None = None
    """Only these, by id or name."""
    model: str | None = None
    min_density: float | None = None
    max_density: float | None = None
    limit: int = 20
    examples: bool = False
    """With the strongest example of each."""


async def find(context: AppContext, key: uuid.UUID | None, query: SearchQuery) -> SearchResults:
    """Asks the embedder in a place of ``key``'s, then the database; ``NotFound`` for an SAE or
    model that is not there."""
    # The model is asked before a thread or a connection is taken: it may take its time.
    embedding, reason = await embed_in_turn(context, key, query.text)

    def work() -> SearchResults:
        with transaction(context.engine) as session:
            ids = _saes_of(session, query.saes, query.model)
            scope = Scope(ids, query.min_density, query.max_density)
            ranked = _best_keys(session, query.text, scope, embedding, query.limit)
            items = _hits(session, context.tokens if query.examples else None, ranked)
        mode: Literal["lexical", "hybrid"] = "lexical" if embedding is None else "hybrid"
        return SearchResults(query=query.text, mode=mode, reason=reason, items=items)

    return await run_in_threadpool(work)


def _best_keys(
    session: Session, q: str, scope: Scope, embedding: list[float] | None, limit: int
) -> list[Fused[FeatureKey]]:
    """The best ``limit`` features of all ways to look for them."""
    lists: dict[str, list[FeatureKey]] = {}
    if embedding is not None:
        lists["vector"] = by_meaning(session, embedding, scope)
    for name, keys in by_words(session, q, scope).items():
        lists[f"words {name}"] = keys
    if len({key for name in lists if name != "vector" for key in lists[name]}) < limit:
        for name, keys in by_spelling(session, q, scope).items():
            lists[f"similar {name}"] = keys
    return fuse(lists)[:limit]


def _saes_of(
    session: Session, names: Sequence[str] | None, model: str | None
) -> list[uuid.UUID] | None:
    """Ids of the SAEs that are to be searched; None stands for all."""
    if names is None and model is None:
        return None
    of_model = None if model is None else ids_of_model(session, model)
    if names is None:
        return of_model
    named = list(dict.fromkeys(find_sae(session, name)[0].id for name in names))
    return named if of_model is None else [each for each in named if each in of_model]


def _hits(
    session: Session, tables: TokenTables | None, ranked: list[Fused[FeatureKey]]
) -> list[SearchHit]:
    """With an example of each where there are ``tables`` to read its tokens by."""
    rows = describe(session, [item.key for item in ranked], tables is not None)
    examples = _examples(session, tables, list(rows.values())) if tables is not None else {}
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
                example=examples.get(item.key),
            )
        )
    return hits


def _examples(
    session: Session, tables: TokenTables, rows: list[FeatureRow]
) -> dict[FeatureKey, ExampleView]:
    """The strongest example of each feature that fires and whose text is there; a statement for
    every text."""
    views: dict[FeatureKey, ExampleView] = {}
    saes = {row.sae.id: row.sae for row in rows}
    for sae in saes.values():
        firsts = {
            row.feature.index: examples_from_bytes(row.feature.examples)[:1]
            for row in rows
            if row.sae.id == sae.id
        }
        firing = {index: first[0] for index, first in firsts.items() if first}
        text_id = str((sae.index or {}).get("text_id"))
        contexts = contexts_of(session, text_id, sorted({each.row for each in firing.values()}))
        # A search over all SAEs is not lost where the text of one is missing.
        firing = {index: each for index, each in firing.items() if each.row in contexts}
        tokens = tables.of(session, find_model(session, str(sae.model_id)))
        seen = view_examples(list(firing.values()), contexts, tokens)
        views |= {(sae.id, index): view for index, view in zip(firing, seen, strict=True)}
    return views
