"""A score with all that has to stand beside it, taken out of the stored details.

Details were stored by some version of monosemy or by another tool, so nothing about them is taken
for granted: what is missing or of another type is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from monosemy.interp import metric_words, strata
from monosemy.interp.heading import is_told_apart
from monosemy.interp.report.table import chance_of
from monosemy.specs.rest.features import ScoreDetail

FEW = 10
"""Below so many judgements a score is called so."""

_STRATA = {
    "recall_by_group": "Recall",
    "accuracy_by_group": "Accuracy",
    "by_group": "",
}
"""Where scorers keep the figures of strata of activation, and what these figures are."""


@dataclass(frozen=True)
class Figure:
    """A value with its interval and number, and what it is of."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None


StratumDrawn = tuple[str, float | None, float | None, float | None, int | None]
"""Name, value, low, high, n."""


@dataclass(frozen=True)
class ScoreShown:
    score: ScoreDetail
    told_apart: bool | None
    """From the shuffled explanation; None without one."""
    chance: float | None
    ends: tuple[float, float]
    """Of the scale that it is drawn on; values outside of it widen it."""
    baseline_interval: tuple[float, float] | None
    measure: str
    """What ``strata`` are figures of."""
    strata: tuple[Figure, ...]
    """By strength of activation, the weakest first."""
    tiers: tuple[Figure, ...]
    """By kind of negatives, where there are several."""
    precision: Figure | None
    """Of contexts that the explanation fits, the share that activates, at natural density."""
    empty: Figure | None
    """The same of an explanation that says nothing."""
    worst_case: float | None
    judgements: int
    """How many can be looked at one by one."""

    @property
    def is_share(self) -> bool:
        return self.ends == (0.0, 1.0)

    @property
    def part(self) -> str:
        """What one of its strata is called."""
        return strata.part(len(self.drawn_strata))

    @property
    def drawn_strata(self) -> list[StratumDrawn]:
        """For ``charts.dots``: every stratum that there is, those without a text too."""
        known = {each.name: each for each in self.strata}
        count = strata.how_many(known)
        if not count:
            return [(f.name, f.value, f.low, f.high, f.n) for f in self.strata]
        every = [known.get(str(i), Figure(str(i), None, None, None, None)) for i in range(count)]
        return [(str(i + 1), f.value, f.low, f.high, f.n) for i, f in enumerate(every)]

    @property
    def strata_chance(self) -> float | None:
        """Guessing, where the strata's figures are the score's own; recall by guessing is nothing
        in particular."""
        return self.chance if self.measure == _measure(self.score.metric) else None

    @property
    def untested(self) -> str:
        """Which strata no text is of, in a sentence."""
        return strata.untested([each.name for each in self.strata if each.value is not None])

    @property
    def few(self) -> bool:
        return self.score.n < FEW

    @property
    def holds_chance(self) -> bool:
        """Whether guessing lies within its interval."""
        low, high = self.score.low, self.score.high
        return None not in (low, high, self.chance) and low <= self.chance <= high  # type: ignore[operator]


def shown_score(score: ScoreDetail) -> ScoreShown:
    details = score.details
    baseline = _figure("shuffled", details.get("baseline"))
    name = next((each for each in _STRATA if isinstance(details.get(each), Mapping)), None)
    tiers = tuple(_figures(details.get("tiers")))
    judgements = details.get("judgements")
    return ScoreShown(
        score=score,
        told_apart=is_told_apart(score.low, score.baseline),
        chance=chance_of(score.metric, details),
        ends=(0.0, 1.0) if score.metric in metric_words.SHARES else (0.0, 0.0),
        baseline_interval=_ends(baseline),
        measure=(_STRATA[name] if name else "") or _measure(score.metric),
        strata=tuple(sorted(_figures(details.get(name or "")), key=_place)),
        tiers=tiers if len(tiers) > 1 else (),
        precision=_figure("precision", details.get("natural_precision")),
        empty=_figure("empty", details.get("empty")),
        worst_case=_number(details.get("worst_case")),
        judgements=len(judgements) if isinstance(judgements, list) else 0,
    )


def _measure(metric: str) -> str:
    words = metric_words.name(metric)
    return words[:1].upper() + words[1:]


def _figures(parts: Any) -> Iterator[Figure]:
    if isinstance(parts, Mapping):
        for name, part in parts.items():
            figure = _figure(str(name), part)
            if figure is not None:
                yield figure


def _figure(name: str, part: Any) -> Figure | None:
    if not isinstance(part, Mapping):
        return None
    value = _number(part.get("value", part.get("mean")))
    counted = part.get("n", part.get("n_positive"))
    n = counted if isinstance(counted, int) and not isinstance(counted, bool) else None
    return Figure(name, value, _number(part.get("low")), _number(part.get("high")), n)


def _ends(figure: Figure | None) -> tuple[float, float] | None:
    if figure is None or figure.low is None or figure.high is None:
        return None
    return figure.low, figure.high


def _place(figure: Figure) -> tuple[int, str]:
    """Strata are named by number, the weakest 0."""
    return len(figure.name), figure.name


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
