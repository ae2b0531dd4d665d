"""Feature pages: put together from the rows that ``repository`` reads."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial

from sqlalchemy.orm import Session

from monosemy.index.evidence import FeatureEvidence, Neighbour
from monosemy.index.example_bytes import examples_from_bytes
from monosemy.index.examples import Example
from monosemy.specs.rest.features import (
    ExamplePage,
    ExampleView,
    ExplanationBrief,
    ExplanationDetail,
    FeaturePage,
    FeatureSummary,
    Neighbours,
    NeighbourView,
    ScoreBrief,
    ScoreDetail,
    Votes,
)
from monosemy.specs.rest.page import Page
from service.database.tables import Explanation, Feature, Model, Sae, Score
from service.features.columns import facts_of
from service.features.examples import count_groups, group_name, view_examples
from service.features.listing import BY_KEY, FeatureListing, FeatureRow, list_features
from service.features.places import latent_class, latent_scaling
from service.features.repository import (
    FoundFeature,
    Labels,
    contexts_of,
    describe_feature,
    find_feature,
)
from service.keys.authorize import LOCAL
from service.kit.errors import InvalidRequest, NotFound
from service.kit.pagination import Order, each, number_of, paged
from service.models.tokens import TokenTables
from service.saes.repository import no_such_sae
from service.saes.views import sae_summary

_BY_PLACE: Order[tuple[int, Example], int] = Order((int,), lambda row: (row[0],), number_of(2**31))
"""Examples are numbered from 1 in the order in which they are stored."""


def page_of_features(
    session: Session, listing: FeatureListing, cursor: str | None, limit: int
) -> Page[FeatureSummary]:
    read = partial(list_features, session, listing)
    return paged(listing.key(), BY_KEY, cursor, limit, read, each(_summary))


def feature_page(
    session: Session,
    tables: TokenTables,
    sae: str,
    index: int,
    reader: str = LOCAL,
    context: int | None = None,
) -> FeaturePage:
    """Everything about one feature; three statements, one more for a new token table, and one for a
    crosscoder.

    ``reader``: whose votes are told apart.  ``context``: tokens on either side in examples."""
    row, _ = _require(session, sae, index)
    return page_of(session, tables, row, reader, context)


def page_of(
    session: Session,
    tables: TokenTables,
    row: FoundFeature,
    reader: str = LOCAL,
    context: int | None = None,
) -> FeaturePage:
    """The same of a feature that was found, and is indexed."""
    feature = row.feature
    assert feature is not None
    index = feature.index
    evidence = FeatureEvidence.from_dict(feature.evidence)
    near = [*evidence.cosine_neighbours, *evidence.coactive_neighbours]
    described = describe_feature(
        session, row.sae.id, index, {item.feature for item in near}, reader
    )
    examples = examples_from_bytes(feature.examples)
    return FeaturePage(
        **facts_of(feature),
        sae=sae_summary(row.sae, row.model),
        heading=described.labels[index].heading,
        tags=row.tags,
        evidence=evidence,
        latent_class=latent_class(row.sae, evidence),
        latent_scaling=latent_scaling(session, row.sae, index),
        explanations=_explanations(described.explanations),
        neighbours=Neighbours(
            cosine=_neighbours(evidence.cosine_neighbours, described.labels),
            coactive=_neighbours(evidence.coactive_neighbours, described.labels),
        ),
        examples=_views(session, tables, row.sae, row.model, examples, context),
    )


def example_page(
    session: Session,
    tables: TokenTables,
    sae: str,
    index: int,
    group: str | None,
    cursor: str | None,
    limit: int,
    context: int | None = None,
) -> ExamplePage:
    """A feature's examples, all or those of one group, in stored order."""
    row, feature = _require(session, sae, index)
    examples = examples_from_bytes(feature.examples)
    groups = count_groups(examples)
    if group is not None and group not in groups:
        known = ", ".join(groups) or "none: the feature never fired"
        raise InvalidRequest([("group", f"this feature has no group '{group}'; it has {known}")])
    chosen = [item for item in examples if group in (None, group_name(item))]
    page = paged(
        ("examples", str(row.sae.id), index, group),
        _BY_PLACE,
        cursor,
        limit,
        lambda start, most: list(enumerate(chosen, 1))[start or 0 :][:most],
        lambda rows: _views(
            session, tables, row.sae, row.model, [example for _, example in rows], context
        ),
    )
    return ExamplePage(**dict(page), groups=groups)


def _require(session: Session, sae: str, index: int) -> tuple[FoundFeature, Feature]:
    row = find_feature(session, sae, index)
    if row is None:
        raise no_such_sae(sae)
    if row.feature is None:
        raise no_such_feature(row.sae, index)
    return row, row.feature


def no_such_feature(sae: Sae, index: int) -> NotFound:
    """Says which features there are."""
    if sae.index is None:
        return NotFound("feature", index, f"'{sae.name}' is not indexed yet.")
    return NotFound("feature", index, f"'{sae.name}' has features 0 to {sae.d_sae - 1}.")


def _views(
    session: Session,
    tables: TokenTables,
    sae: Sae,
    model: Model,
    examples: Sequence[Example],
    context: int | None,
) -> list[ExampleView]:
    if not examples:
        return []
    text_id = str((sae.index or {}).get("text_id"))
    contexts = contexts_of(session, text_id, sorted({example.row for example in examples}))
    return view_examples(examples, contexts, tables.of(session, model), context)


def _explanations(
    rows: Sequence[tuple[Explanation, Score | None, Votes]],
) -> list[ExplanationDetail]:
    """One entry per explanation, each with all its scores; ``rows`` come best first."""
    entries: dict[uuid.UUID, ExplanationDetail] = {}
    for explanation, score, votes in rows:
        entry = entries.get(explanation.id)
        if entry is None:
            entry = entries[explanation.id] = ExplanationDetail(
                **dict(ExplanationBrief.model_validate(explanation)),
                run_id=explanation.run_id,
                provenance=explanation.provenance,
                created_at=explanation.created_at,
                scores=[],
                votes=votes,
            )
        if score is not None:
            entry.scores.append(ScoreDetail.model_validate(score))
    return list(entries.values())


def _neighbours(near: Sequence[Neighbour], labels: dict[int, Labels]) -> list[NeighbourView]:
    views = []
    for item in near:
        known = labels.get(item.feature, Labels(None, None, None))
        views.append(
            NeighbourView(
                feature=item.feature,
                value=item.value,
                label=known.evidence,
                heading=known.heading.text if known.heading else None,
                explanation=known.explanation,
            )
        )
    return views


def _summary(row: FeatureRow) -> FeatureSummary:
    return FeatureSummary(
        **row.facts,
        heading=row.heading,
        explanation=row.explanation and ExplanationBrief.model_validate(row.explanation),
        score=row.score and ScoreBrief.model_validate(row.score),
        tags=row.tags,
    )
