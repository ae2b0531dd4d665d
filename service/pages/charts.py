"""``monosemy.plots`` for templates: what comes from there is escaped already."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ParamSpec

from markupsafe import Markup

from monosemy import plots, svg
from monosemy.interp import metric_words
from monosemy.interp.report.table import chance_of
from monosemy.specs.rest.features import ScoreBrief
from monosemy.ticks import Span

Asked = ParamSpec("Asked")


def _marked(plot: Callable[Asked, str]) -> Callable[Asked, Markup]:
    @functools.wraps(plot)
    def drawn(*values: Asked.args, **named: Asked.kwargs) -> Markup:
        return Markup(plot(*values, **named))

    return drawn


score_interval = _marked(plots.score_interval)
score_axis = _marked(plots.score_axis)
interval_key = _marked(plots.interval_key)
dots = _marked(plots.dots)
against_chance = _marked(plots.against_chance)
bars = _marked(plots.bars)
share_bar = _marked(plots.share_bar)
curves = _marked(plots.curves)
key = _marked(svg.key)


@dataclass(frozen=True)
class ScoreScale:
    """What the scores of one scorer are drawn on."""

    ends: Span
    chance: float | None
    metric: str


def score_scales(scores: Iterable[ScoreBrief | None]) -> dict[str, ScoreScale]:
    """By scorer, one scale for all of these scores of his: from 0 to 1 for shares, else what holds
    them."""
    piles: dict[str, list[ScoreBrief]] = {}
    for score in scores:
        if score is not None and score.value is not None:
            piles.setdefault(score.scorer, []).append(score)
    return {
        scorer: ScoreScale(_ends(pile), chance_of(pile[0].metric, {}), pile[0].metric)
        for scorer, pile in piles.items()
    }


def _ends(pile: Iterable[ScoreBrief]) -> Span:
    if all(each.metric in metric_words.SHARES for each in pile):
        return 0.0, 1.0
    return plots.score_span(
        x for each in pile for x in (each.value, each.low, each.high, each.baseline)
    )
