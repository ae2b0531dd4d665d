"""Rows of comparisons put into what the API answers."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from monosemy.index.evidence import FeatureEvidence
from monosemy.specs.rest.comparisons import (
    ComparisonView,
    FeatureLinkView,
    FeatureMatch,
    LinkedFeature,
    SideView,
)
from service.comparisons import repository
from service.database.comparison_tables import FeatureLink
from service.database.tables import Sae
from service.features.repository import find_feature, labels_of
from service.kit.errors import NotFound
from service.saes.repository import no_such_sae


def side(sae: Sae) -> SideView:
    return SideView(id=sae.id, name=sae.name, site=sae.site, d_sae=sae.d_sae)


def view(row: repository.Row) -> ComparisonView:
    comparison, a, b = row
    return ComparisonView(
        id=comparison.id,
        a=side(a),
        b=side(b),
        by=comparison.by,  # type: ignore[arg-type]
        method=comparison.method,  # type: ignore[arg-type]
        summary=comparison.summary,
        created_at=comparison.created_at,
    )


def matches(session: Session, a: Sae, b: Sae, rows: Sequence[FeatureLink]) -> list[FeatureMatch]:
    names_a = labels_of(session, a.id, sorted({row.feature_a for row in rows}))
    names_b = labels_of(session, b.id, sorted({row.feature_b for row in rows}))
    return [
        FeatureMatch(
            a=LinkedFeature(index=row.feature_a, label=names_a.get(row.feature_a)),
            b=LinkedFeature(index=row.feature_b, label=names_b.get(row.feature_b)),
            value=row.value,
            matched=row.matched,
        )
        for row in rows
    ]


def links(session: Session, reference: str, index: int, kind: str | None) -> list[FeatureLinkView]:
    """Of one feature: neighbours in its own SAE, then those in others."""
    row = find_feature(session, reference, index)
    if row is None:
        raise no_such_sae(reference)
    sae, feature = row.sae, row.feature
    if index >= sae.d_sae:
        raise NotFound("feature", index, f"'{sae.name}' has features 0 to {sae.d_sae - 1}.")
    items: list[dict[str, Any]] = []
    if feature is not None:
        evidence = FeatureEvidence.from_dict(feature.evidence)
        for name, neighbours in (
            ("decoder", evidence.cosine_neighbours),
            ("coactivation", evidence.coactive_neighbours),
        ):
            items += [
                {"kind": name, "sae": sae, "index": each.feature, "value": each.value}
                for each in neighbours
            ]
    by = kind if kind in ("decoder", "tokens", "explanations") else None
    if kind != "coactivation":
        items += _elsewhere(session, sae.id, index, by)
    chosen = [item for item in items if kind is None or item["kind"] == kind]
    return _named(session, chosen)


def links_elsewhere(session: Session, sae: uuid.UUID, index: int) -> list[FeatureLinkView]:
    """Of one feature, in the SAEs that its own was compared with."""
    return _named(session, _elsewhere(session, sae, index, None))


def _elsewhere(
    session: Session, sae: uuid.UUID, index: int, by: str | None
) -> list[dict[str, Any]]:
    return [
        {
            "kind": comparison.by,
            "sae": other,
            "index": number,
            "value": value,
            "matched": matched,
            "comparison": comparison.id,
        }
        for comparison, other, number, value, matched in repository.links_of(
            session, sae, index, by
        )
    ]


def _named(session: Session, items: list[dict[str, Any]]) -> list[FeatureLinkView]:
    needed: dict[uuid.UUID, set[int]] = defaultdict(set)
    for item in items:
        needed[item["sae"].id].add(item["index"])
    names = {sae: labels_of(session, sae, sorted(indices)) for sae, indices in needed.items()}
    return [
        FeatureLinkView(
            kind=item["kind"],
            sae=side(item["sae"]),
            index=item["index"],
            label=names[item["sae"].id].get(item["index"]),
            value=item["value"],
            matched=item.get("matched"),
            comparison=item.get("comparison"),
        )
        for item in items
    ]
