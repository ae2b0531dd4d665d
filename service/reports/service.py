"""The report over an SAE's scores, out of the database."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from monosemy.errors import DataError
from monosemy.interp.duplicate_labels import duplicate_labels
from monosemy.interp.report.beside import FEW, Side, build_beside
from monosemy.interp.report.build import Extras, build_report
from monosemy.interp.report.measures import told_apart
from monosemy.interp.report.table import FeatureScores
from monosemy.specs import PriceSpec
from monosemy.specs.rest.reports import ReportSummary, ShareView, ToldApart
from service.database.tables import Sae
from service.kit.errors import Conflict, InvalidRequest
from service.reports.repository import (
    densities,
    fires_seldom,
    report_rows,
    scored_features,
    scores_state,
)
from service.saes.views import basis_of
from service.settings import Settings

MOST_FEATURES = 5000
"""Features that a report is made of; of more, so many evenly spread ones."""


_KEPT = 64
_summaries: OrderedDict[tuple[Any, ...], ReportSummary] = OrderedDict()
_lock = threading.Lock()


def sae_report(
    session: Session, sae: Sae, reference: Sae | None, settings: Settings
) -> dict[str, Any]:
    """What ``monosemy.interp.report.build_report`` says; ``Conflict`` where nothing is
    scored, of it or of the reference."""
    table, vectors, total = _table(session, sae)
    if not table:
        raise Conflict(
            f"'{sae.name}' has no scores yet; submit a score run.",
            code="nothing-scored",
            title="There is nothing to report",
        )
    whole = all(vector is not None for vector in vectors)
    duplicates = duplicate_labels(
        [each.feature for each in table],
        [each.explanation for each in table],
        np.array(vectors, np.float32) if whole else None,
    )
    price = PriceSpec(
        input=settings.judge_price_input,
        cached=settings.judge_price_cached,
        output=settings.judge_price_output,
    )
    compared = _table(session, reference)[0] if reference is not None else ()
    if reference is not None and not compared:
        raise Conflict(
            f"'{reference.name}' has no scores yet; submit a score run, or leave it out.",
            code="nothing-scored",
            title="There is nothing to compare with",
        )
    extras = Extras(
        reference=compared,
        reference_name=reference.name if reference is not None else "",
        duplicates=duplicates,
        price=price if price.input or price.output else None,
    )
    report = build_report(table, sae.name, extras)
    return {**report, "scored_features": total}


def beside_report(session: Session, saes: Sequence[Sae]) -> dict[str, Any]:
    """What ``monosemy.interp.report.beside.build_beside`` says; ``Conflict`` where no scorer has
    scored all of them, ``InvalidRequest`` for one that is named twice."""
    if len({sae.id for sae in saes}) < len(saes):
        raise InvalidRequest([("other", "each SAE stands beside the others once")])
    try:
        return build_beside([_side(session, sae) for sae in saes])
    except DataError as error:
        raise Conflict(
            str(error), code="nothing-scored", title="There is nothing to compare"
        ) from None


def _side(session: Session, sae: Sae) -> Side:
    table = _table(session, sae)[0]
    evaluation = sae.metrics.get("evaluation")
    l0 = (evaluation if isinstance(evaluation, dict) else sae.metrics).get("l0")
    index = sae.index or {}
    return Side(
        name=sae.name,
        table=table,
        basis=basis_of(sae),
        latents=sae.d_sae,
        l0=l0 if isinstance(l0, int | float) else None,
        fires=fires_seldom(session, sae.id, sae.d_sae, FEW) if index else {},
        densities=densities(session, sae.id, [each.feature for each in table]),
        text=index.get("text_id"),
    )


def report_summary(session: Session, sae: Sae) -> ReportSummary:
    """How many features each scorer tells apart from a shuffled explanation; nothing is resampled.
    No entry where nothing is scored.  It is kept until scores come or go."""
    key = (sae.id, *scores_state(session, sae.id))
    with _lock:
        known = _summaries.get(key)
    if known is None:
        known = _summary(session, sae)
        with _lock:
            _summaries[key] = known
            while len(_summaries) > _KEPT:
                _summaries.popitem(last=False)
    return known


def _summary(session: Session, sae: Sae) -> ReportSummary:
    table, _, total = _table(session, sae)
    scorers = sorted({name for each in table for name in each.scores})
    items = []
    for scorer in scorers:
        found = told_apart([each.scores[scorer] for each in table if scorer in each.scores])
        discoveries = found["discoveries"]
        items.append(
            ToldApart(
                scorer=scorer,
                features=found["n"],
                above=ShareView(**{end: found["above"][end] for end in ("value", "low", "high")}),
                discoveries=discoveries["count"],
                uncorrected=discoveries["uncorrected"],
                rate=discoveries["rate"],
            )
        )
    return ReportSummary(items=items, scored_features=total)


def _table(session: Session, sae: Sae) -> tuple[list[FeatureScores], list[Any], int]:
    """(rows, embeddings, features with scores)."""
    features = scored_features(session, sae.id)
    places = np.linspace(0, len(features) - 1, min(MOST_FEATURES, len(features))).round()
    chosen = [features[place] for place in np.unique(places.astype(int)).tolist()]
    table, vectors = report_rows(session, sae.id, chosen)
    return table, vectors, len(features)
