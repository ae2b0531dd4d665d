"""Means of changes: standard errors by hand, and intervals that cover what they say."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from monosemy.interp.judging.usage import Usage
from monosemy.interp.scorers.mean_change import mean_change
from monosemy.interp.scorers.result import Judgement, ScoreResult
from monosemy.interp.statistics.student import student_critical
from monosemy.interp.tiers import ACTIVATING

Z95 = 1.959963984540054


def judged(values: list[float | None], documents: list[int] | None = None) -> list[Judgement]:
    return [
        Judgement(
            row=i,
            position=i,
            document=i if documents is None else documents[i],
            tier=ACTIVATING,
            group=i % 2,
            truth=True,
            value=value,
        )
        for i, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("df", "wanted"),
    [(1, 12.7062047), (2, 4.3026527), (3, 3.1824463), (9, 2.2621572), (30, 2.0422725)],
)
def test_critical_values_of_t_are_those_of_the_tables(df: int, wanted: float) -> None:
    assert student_critical(Z95, df) == pytest.approx(wanted, rel=1e-5)


def test_t_has_its_closed_forms_and_its_limit() -> None:
    for tail in (0.3, 0.025, 1e-6):
        z = -NormalDist().inv_cdf(tail)
        cauchy = 1 / math.tan(math.pi * tail)
        assert student_critical(z, 1) == pytest.approx(cauchy, rel=1e-6)
        two = (1 - 2 * tail) / math.sqrt(2 * tail * (1 - tail))
        assert student_critical(z, 2) == pytest.approx(two, rel=1e-6)
    assert student_critical(Z95, 10**6) == pytest.approx(Z95, abs=1e-5)
    assert student_critical(0.0, 4) == pytest.approx(0.0, abs=1e-9)
    assert student_critical(-Z95, 3) == -student_critical(Z95, 3)
    with pytest.raises(ValueError, match="degrees of freedom"):
        student_critical(Z95, 0)


def test_distinct_documents_give_the_textbook_standard_error() -> None:
    values = [1.0, 2.0, 4.0, 5.0]
    change = mean_change(judged(values))
    sem = np.std(values, ddof=1) / 2
    assert change.value == pytest.approx(3.0)
    assert change.details["sem"] == pytest.approx(sem)
    assert change.high - 3.0 == pytest.approx(3.1824463 * sem, rel=1e-6)
    assert change.low + change.high == pytest.approx(6.0)
    assert change.worst_case is None
    assert change.details["by_group"] == {"0": {"mean": 2.5, "n": 2}, "1": {"mean": 3.5, "n": 2}}
    wide = mean_change(judged(values), z=2.5758293)
    assert wide.high - 3.0 == pytest.approx(5.8409093 * sem, rel=1e-5)


def test_documents_are_clusters() -> None:
    # Each document twice, with equal values: the information of four, not of eight.
    values = [1.0, 2.0, 4.0, 5.0]
    twice = mean_change(judged(values + values, [0, 1, 2, 3] * 2))
    assert (twice.low, twice.high) == pytest.approx(
        (mean_change(judged(values)).low, mean_change(judged(values)).high)
    )
    assert twice.details["n_documents"] == 4
    # By hand: residuals -2, 0 | 2, 0 in two documents; 2 * (4 + 4) / 16 = 1.
    assert mean_change(judged([1.0, 3.0, 5.0, 3.0], [0, 0, 1, 1])).details["sem"] == 1.0


def test_what_cannot_be_judged_is_left_out_and_one_document_gives_no_score() -> None:
    with_failed = mean_change(judged([1.0, None, 4.0, 5.0]))
    assert with_failed.value == pytest.approx(10 / 3)
    assert mean_change(judged([1.0, 2.0], [3, 3])).value is None
    assert mean_change([]).value is None


def test_no_share_between_chance_and_perfect_is_claimed() -> None:
    def result(value: float, metric: str) -> ScoreResult:
        return ScoreResult("s", metric, value, 0, 1, 2, 0, None, {}, Usage(), ())

    metric = mean_change([]).metric
    assert result(0.4, metric).with_baseline(result(0.1, metric)).chance_normalised is None
    other = result(0.4, "auroc").with_baseline(result(0.1, "auroc"))
    assert other.chance_normalised == pytest.approx(1 / 3)
    details = result(0.4, metric).with_baseline(result(0.1, metric)).as_details()
    assert details["chance_normalised"] is None
    assert details["baseline"]["value"] == 0.1


@pytest.mark.parametrize("per_document", [1, 3])
def test_the_interval_covers_what_it_says(per_document: int) -> None:
    rng = np.random.default_rng(0)
    documents = [i // per_document for i in range(12 * per_document)]
    covered = 0
    for _ in range(1000):
        shared = np.repeat(rng.normal(size=12), per_document)
        values = 0.7 + shared + rng.normal(size=len(documents)) * 0.5
        change = mean_change(judged(values.tolist(), documents))
        covered += change.low <= 0.7 <= change.high
    assert 0.93 <= covered / 1000 <= 0.97
