"""The AUROC summary: what it counts, tier by tier, and how failures bound it."""

import json
from dataclasses import replace
from itertools import product

import pytest

from monosemy.interp.scorers.auroc import auroc
from monosemy.interp.scorers.result import Judgement
from monosemy.interp.statistics.ranks import area_under_roc
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.statistics.sequential import critical_value
from monosemy.interp.tiers import ACTIVATING, RANDOM, SAME_TOKEN


def _judgements(
    tier: str, values: list[float | None], first: int, group: str | int | None = None
) -> list[Judgement]:
    return [
        Judgement(
            row=first + i,
            position=0,
            document=first + i,
            tier=tier,
            group=tier if group is None else group,
            truth=tier == ACTIVATING,
            value=value,
        )
        for i, value in enumerate(values)
    ]


WEAK, STRONG = [0.3, 0.6, 0.5], [0.9, 0.8, 0.7]
NEGATIVE, NEAR = [0.1, 0.5, 0.2, 0.0], [0.6, 0.65, 0.4]
SCORED = (
    _judgements(ACTIVATING, WEAK, 0, 2)
    + _judgements(ACTIVATING, STRONG, 10, 10)
    + _judgements(SAME_TOKEN, NEAR, 20)
    + _judgements(RANDOM, NEGATIVE, 30)
)


def _pairs(first: list[float], second: list[float]) -> float:
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in product(first, second)]
    return sum(wins) / len(wins)


def test_headline_tiers_and_strata() -> None:
    summary = auroc(SCORED, RANDOM)
    assert summary.metric == "auroc"
    assert summary.value == summary.worst_case == pytest.approx(_pairs(WEAK + STRONG, NEGATIVE))
    expected = area_under_roc(WEAK + STRONG, NEGATIVE)
    assert (summary.low, summary.high) == pytest.approx((expected.low, expected.high))
    tiers = summary.details["tiers"]
    assert tiers[RANDOM]["value"] == summary.value
    assert tiers[SAME_TOKEN]["value"] == pytest.approx(_pairs(WEAK + STRONG, NEAR))
    assert (tiers[SAME_TOKEN]["n_positive"], tiers[SAME_TOKEN]["n_negative"]) == (6, 3)
    groups = summary.details["by_group"]
    assert list(groups) == ["2", "10"]
    assert groups["2"]["value"] == pytest.approx(_pairs(WEAK, NEGATIVE))
    assert groups["10"]["value"] == groups["10"]["high"] == 1.0
    json.dumps(summary.details, allow_nan=False)


def test_a_larger_critical_value_gives_a_wider_interval() -> None:
    plain, repeated = auroc(SCORED, RANDOM, Z95), auroc(SCORED, RANDOM, critical_value(5))
    assert repeated.low < plain.low
    assert repeated.half_width > plain.half_width


def test_failures_rank_worst_and_do_not_count() -> None:
    failed = SCORED + _judgements(ACTIVATING, [None, None], 40, 2) + _judgements(RANDOM, [None], 50)
    summary = auroc(failed, RANDOM)
    assert summary.value == auroc(SCORED, RANDOM).value
    assert summary.details["n_positive"] == 6
    right = _pairs(WEAK + STRONG, NEGATIVE) * 24
    assert summary.worst_case == pytest.approx(right / (8 * 5))
    # No way for the failed ones to come out gives less.
    for values in product([-9.0, 0.45, 9.0], repeat=3):
        lucky = _pairs([*WEAK, *STRONG, *values[:2]], [*NEGATIVE, values[2]])
        assert lucky >= summary.worst_case - 1e-12


def test_documents_are_clusters() -> None:
    shared = [replace(j, document=j.document // 2) for j in SCORED]
    twice = SCORED + [replace(j, position=1) for j in SCORED]
    assert auroc(shared, RANDOM).half_width != auroc(SCORED, RANDOM).half_width
    assert auroc(twice, RANDOM).half_width > 0.95 * auroc(SCORED, RANDOM).half_width


def test_missing_classes() -> None:
    for judgements, headline in (
        (SCORED, "neighbour"),
        ([j for j in SCORED if j.truth], RANDOM),
        ([j for j in SCORED if not j.truth], RANDOM),
        ([], RANDOM),
    ):
        summary = auroc(judgements, headline)
        assert (summary.value, summary.low, summary.high) == (None, 0.0, 1.0)
        assert summary.worst_case is None
    lost = auroc(_judgements(ACTIVATING, [None], 0, 0) + _judgements(RANDOM, [0.1], 5), RANDOM)
    assert (lost.value, lost.worst_case) == (None, 0.0)
    with pytest.raises(ValueError, match="not a number"):
        auroc(SCORED + _judgements(RANDOM, [float("nan")], 60), RANDOM)
