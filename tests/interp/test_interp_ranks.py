"""AUROC against its definition, its variance against the textbook, its interval by simulation."""

from itertools import product
from math import inf, nan

import numpy as np
import pytest

from monosemy.interp.scorers.auroc import auroc as summarise
from monosemy.interp.statistics.ranks import (
    _clustered,
    _delong,
    area_under_roc,
    auroc,
    midranks,
    placements,
)
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.statistics.student import student_critical
from monosemy.interp.tiers import RANDOM
from tests.support.campaign import wider
from tests.support.mock_scoring import graded_scoring


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])


def _tied(rng: np.random.Generator, m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(0, 6, m).astype(float) + 1, rng.integers(0, 6, n).astype(float)


def obuchowski(x: np.ndarray, y: np.ndarray, of_x: list[int], of_y: list[int]) -> float:
    parts = _clustered(*placements(x, y), of_x, of_y)
    return parts.positive + parts.negative + parts.shared


def test_midranks_by_hand() -> None:
    assert midranks(np.array([3.0, 1.0, 3.0, 2.0, 3.0])).tolist() == [4.0, 1.0, 4.0, 2.0, 4.0]


@pytest.mark.parametrize("seed", range(5))
def test_area_and_placements_are_those_of_all_pairs(seed: int) -> None:
    x, y = _tied(np.random.default_rng(seed), 7, 11)
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in product(x, y)]
    assert auroc(x, y) == pytest.approx(sum(pairs) / 77, abs=1e-12)
    above, below = placements(x, y)
    assert above == pytest.approx(_kernel(x, y).mean(axis=1))
    assert below == pytest.approx(_kernel(x, y).mean(axis=0))


def test_area_by_hand_and_with_infinite_values() -> None:
    assert auroc([0.8, 0.4], [0.4, 0.1]) == 0.875
    assert auroc([-inf, 1.0], [0.0]) == 0.5
    with pytest.raises(ValueError, match="both classes"):
        auroc([1.0], [])
    with pytest.raises(ValueError, match="not a number"):
        auroc([1.0, nan], [0.0])


@pytest.mark.parametrize("seed", range(5))
def test_delong_is_the_quadratic_formula(seed: int) -> None:
    """DeLong's sums of squares, with every pair written out."""
    x, y = _tied(np.random.default_rng(seed), 9, 6)
    psi = _kernel(x, y)
    area = psi.mean()
    s10 = sum((psi[i].mean() - area) ** 2 for i in range(9)) / 8
    s01 = sum((psi[:, j].mean() - area) ** 2 for j in range(6)) / 5
    assert _delong(*placements(x, y)) == pytest.approx(s10 / 9 + s01 / 6, abs=1e-14)


def test_obuchowski_is_delong_where_clusters_are_single() -> None:
    x, y = _tied(np.random.default_rng(0), 9, 6)
    single = obuchowski(x, y, list(range(9)), list(range(9, 15)))
    assert single == pytest.approx(_delong(*placements(x, y)), abs=1e-14)


def test_obuchowski_by_the_formula_with_clusters_of_both_classes() -> None:
    rng = np.random.default_rng(1)
    x, y = _tied(rng, 12, 10)
    of_x, of_y = rng.integers(0, 5, 12).tolist(), rng.integers(3, 8, 10).tolist()
    psi = _kernel(x, y)
    area = psi.mean()
    clusters = sorted(set(of_x) | set(of_y))
    first = [sum(psi[i].mean() - area for i in range(12) if of_x[i] == c) for c in clusters]
    second = [sum(psi[:, j].mean() - area for j in range(10) if of_y[j] == c) for c in clusters]
    k10, k01, k = len(set(of_x)), len(set(of_y)), len(clusters)
    s10 = k10 / (k10 - 1) / 12 * sum(a * a for a in first)
    s01 = k01 / (k01 - 1) / 10 * sum(b * b for b in second)
    s11 = k / (k - 1) * sum(a * b for a, b in zip(first, second, strict=True))
    assert s11 != 0
    expected = s10 / 12 + s01 / 10 + 2 * s11 / 120
    assert obuchowski(x, y, of_x, of_y) == pytest.approx(expected, abs=1e-14)


def test_doubling_every_example_within_its_document_says_nothing_new() -> None:
    x, y = _tied(np.random.default_rng(2), 12, 9)
    of_x, of_y = list(range(12)), list(range(100, 109))
    once = area_under_roc(x, y, of_x, of_y)
    twice = area_under_roc(
        np.repeat(x, 2), np.repeat(y, 2), np.repeat(of_x, 2).tolist(), np.repeat(of_y, 2).tolist()
    )
    naive = area_under_roc(np.repeat(x, 2), np.repeat(y, 2))
    assert twice.value == pytest.approx(once.value)
    assert twice.high - twice.low == pytest.approx(once.high - once.low, rel=0.02)
    assert naive.high - naive.low < 0.85 * (once.high - once.low)


@pytest.mark.parametrize("seed", range(3))
def test_only_the_order_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal(8) + 1, rng.standard_normal(10)
    plain = area_under_roc(x, y)
    assert area_under_roc(np.exp(3 * x), np.exp(3 * y)) == plain
    mirrored = area_under_roc(-x, -y)
    assert mirrored.value == pytest.approx(1 - (plain.value or 0))
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((plain.low, plain.high), abs=1e-9)
    swapped = area_under_roc(y, x)
    assert (1 - swapped.high, 1 - swapped.low) == pytest.approx((plain.low, plain.high), abs=1e-9)


def test_the_interval_is_never_empty() -> None:
    for m, n in product((1, 2, 3, 10), (1, 2, 3, 10)):
        perfect = area_under_roc([1.0] * m, [0.0] * n)
        assert perfect.value == perfect.high == 1.0
        assert 0 < perfect.low < 0.9
        reversed_ = area_under_roc([0.0] * m, [1.0] * n)
        assert (reversed_.low, reversed_.high) == pytest.approx((0.0, 1 - perfect.low), abs=1e-9)
        tied = area_under_roc([1.0] * m, [1.0] * n)
        assert tied.value == 0.5
        assert tied.high - 0.5 == pytest.approx(0.5 - tied.low, abs=1e-9)
        assert tied.high - tied.low > 0.2
    # More examples say more, unless they are of the same documents.
    ten, hundred = area_under_roc([1.0] * 10, [0.0] * 10), area_under_roc([1.0] * 100, [0.0] * 100)
    assert hundred.low > 0.95 > ten.low
    documents = [i // 10 for i in range(100)]
    same = area_under_roc([1.0] * 100, [0.0] * 100, documents, [10 + d for d in documents])
    assert same.low == pytest.approx(ten.low, abs=0.01)
    one = area_under_roc([2.0, 0.5, 3.0], [1.0, 0.0, -1.0], ["a"] * 3, ["b", "c", "d"])
    assert one.high - one.low > 0.5


def test_empty_classes_and_wrong_arguments() -> None:
    assert area_under_roc([], [1.0]).as_dict() == {
        "value": None,
        "low": 0.0,
        "high": 1.0,
        "n_positive": 0,
        "n_negative": 1,
    }
    with pytest.raises(ValueError, match="both classes or of none"):
        area_under_roc([1.0], [0.0], [1])
    with pytest.raises(ValueError, match="one cluster per example"):
        area_under_roc([1.0], [0.0], [1], [1, 2])


@pytest.mark.parametrize(
    ("df", "p975", "p995"),  # Student's distribution, as tabled
    [(4, 2.776, 4.604), (10, 2.228, 3.169), (30, 2.042, 2.750), (120, 1.980, 2.617)],
)
def test_students_critical_values(df: int, p975: float, p995: float) -> None:
    assert student_critical(Z95, df) == pytest.approx(p975, abs=2e-3)
    assert student_critical(2.575829, df) == pytest.approx(p995, rel=4e-3)
    with pytest.raises(ValueError, match="degrees of freedom"):
        student_critical(Z95, 0.5)


def _coverage(repeats: int, seed: int, area: float, **design: object) -> tuple[float, float]:
    """How often the scorer's interval, and one that knows no documents, hold the truth."""
    rng = np.random.default_rng(seed)
    covered, naive = 0, 0
    for _ in range(repeats):
        judgements = graded_scoring(rng, area=area, **design)  # type: ignore[arg-type]
        summary = summarise(judgements, RANDOM)
        covered += summary.low <= area <= summary.high
        if "correlation" not in design:
            continue
        alone = area_under_roc(
            [j.value for j in judgements if j.truth],
            [j.value for j in judgements if not j.truth],
        )
        naive += alone.low <= area <= alone.high
    return covered / repeats, naive / repeats


# 2,000 scorings: a true coverage of 95 % is seen as 95 +- 1.0 % (two standard errors), so an
# interval that covers below 91.5 or above 98 % does not pass.
SCORINGS = 2000


@pytest.mark.parametrize(
    ("m", "n", "area", "spread"),
    [
        (20, 20, 0.5, 1.0),
        (20, 60, 0.85, 0.5),
        *wider((20, 20, 0.85, 2.0), (20, 20, 0.95, 1.0), (50, 50, 0.7, 1.0), (50, 50, 0.95, 1.0)),
    ],
)
def test_the_interval_covers_93_to_97(m: int, n: int, area: float, spread: float) -> None:
    covered, _ = _coverage(SCORINGS, 0, area, m=m, n=n, spread=spread)
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("area", [0.85, *wider(0.6, 0.95)])
def test_ten_examples_of_each_kind_cover_enough(area: float) -> None:
    """So few give a discrete area; the interval errs on the wide side, hence 98 instead of 97."""
    covered, _ = _coverage(SCORINGS, 0, area, m=10, n=10)
    assert 0.93 <= covered <= 0.98


def test_where_the_claim_ends() -> None:
    """Few positives, many negatives, and positives spread twice as wide: 10 positives do not show
    their own tail.  Said in the docstring; a fix that lifts this may raise the bound."""
    covered, _ = _coverage(SCORINGS, 0, 0.85, m=10, n=50, spread=2.0)
    assert 0.87 <= covered <= 0.97


@pytest.mark.parametrize(
    ("per_document", "correlation", "area"), [(2, 0.3, 0.85), *wider((4, 0.3, 0.7), (4, 0.7, 0.85))]
)
def test_the_interval_covers_where_documents_agree(
    per_document: int, correlation: float, area: float
) -> None:
    n = 25 * per_document
    covered, naive = _coverage(
        SCORINGS, 1, area, m=n, n=n, per_document=per_document, correlation=correlation
    )
    assert 0.93 <= covered <= 0.97
    if per_document == 4:
        assert naive < 0.90


def test_the_interval_covers_where_documents_hold_both_classes() -> None:
    """A document's own level cancels between its positives and negatives: less variance, and an
    interval that knows it is narrower than one that does not."""
    design = {"m": 60, "n": 60, "per_document": 2, "correlation": 0.5, "mixed": True}
    covered, naive = _coverage(SCORINGS, 2, 0.75, **design)
    assert 0.93 <= covered <= 0.97
    assert naive > 0.98
