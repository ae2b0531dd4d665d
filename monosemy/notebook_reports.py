"""Scores of an SAE beside those of bases or other SAEs, from a notebook: the figure of Paulo et al.
(2024) without a service.

sae, neurons = monosemy.train(...), monosemy.basis(...)
report = monosemy.report_beside([(sae, scores), (neurons, their_scores)], to="beside.html")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monosemy import arguments
from monosemy.half_written import faults_naming
from monosemy.home import Home, home_of
from monosemy.interp.report.beside import FEW, Side, build_beside
from monosemy.interp.report.beside_page import beside_page
from monosemy.interp.report.table import FeatureScores, scored
from monosemy.interp.scorers.result import ScoreResult
from monosemy.sae_folder import SaeFolder

Scores = Mapping[int, ScoreResult | Sequence[ScoreResult]]
"""By feature: what ``score`` gives, several of those together, or ``PipelineResult.scores``."""

_SIDES = "pairs of an SAE and its scores by feature"


def report_beside(
    sides: Sequence[tuple[SaeFolder | str | Path, Scores]],
    home: str | Path | None = None,
    to: str | Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Of every scorer that all sides have: distributions, medians, shares told apart from the
    shuffled baseline, and the difference of the first side from each other one in numbers and
    words; with ``to`` it is drawn there too, as one page of HTML.

    Two to four ``sides``: an SAE or a basis as ``evaluate`` takes it, indexed in ``home``, and its
    scores.  L0 is that on the indexed text; ``seed`` seeds the resampling.
    Raises ``SpecError`` for sides of another form, ``DataError`` for an SAE that is not there or
    not indexed, one that is given twice, and sides that share no scorer.
    """
    pairs = arguments.several("sides", sides, _SIDES)
    for pair in pairs:
        if not isinstance(pair, Sequence) or len(pair) != 2 or isinstance(pair, str):
            raise arguments.refused("sides", _SIDES, pair)
    opened = Home(home_of(pairs[0][0] if pairs else None, home))
    report = build_beside([_side(opened, sae, scores) for sae, scores in pairs], seed)
    if to is not None:
        half = Path(to).with_name(f"{Path(to).name}.part")
        with faults_naming(Path(to), half):
            half.write_text(beside_page(report), encoding="utf-8")
            half.replace(to)
    return report


def _side(home: Home, sae: SaeFolder | str | Path, scores: Scores) -> Side:
    folder = home.sae(sae)
    reader = home.texts(folder).reader
    table = [_row(feature, each) for feature, each in _by_feature(scores)]
    basis = folder.provenance.get("basis") or {}
    return Side(
        name=folder.name,
        table=table,
        basis=basis.get("basis"),
        latents=reader.n_features,
        l0=reader.n_postings / max(reader.n_tokens, 1),
        fires={
            "silent": float(np.mean(reader.counts < 1)),
            "few": float(np.mean(reader.counts < FEW)),
        },
        densities={row.feature: float(reader.density[row.feature]) for row in table},
        text=reader.text_id,
    )


def _by_feature(scores: Scores) -> list[tuple[int, list[ScoreResult]]]:
    given = arguments.a_mapping("sides", scores, "scores by feature")
    listed = []
    for feature, each in given.items():
        several = [each] if isinstance(each, ScoreResult) else each
        for score in arguments.several("sides", several, "scores by feature"):
            if not isinstance(score, ScoreResult):
                raise arguments.refused("sides", "scores by feature", score)
        listed.append((arguments.whole("sides", feature), list(several)))
    return sorted(listed, key=lambda item: item[0])


def _row(feature: int, scores: Sequence[ScoreResult]) -> FeatureScores:
    columns = ("scorer", "metric", "value", "low", "high", "n", "n_failed")
    rows = [
        {**{name: getattr(each, name) for name in columns}, "details": each.as_details()}
        for each in scores
    ]
    return FeatureScores(feature, "", {row["scorer"]: scored(row) for row in rows})
