"""Published values, hand-computed fixtures, and coverage by simulation."""

import subprocess
import sys
from math import comb

import numpy as np
import pytest

from monosemy.interp.statistics.rates import (
    Rate,
    chance_normalised,
    effective_n,
    newcombe_difference,
    newcombe_mean,
    rate_of,
    wilson,
    worst_case,
)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [  # Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(hits: int, n: int, low: float, high: float) -> None:
    assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_at_the_ends() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 7)[0] == 0.0
    assert wilson(7, 7)[1] == 1.0
    low, high = wilson(3, 10)
    assert (1 - high, 1 - low) == pytest.approx(wilson(7, 10))
    with pytest.raises(ValueError, match="11 successes out of 10"):
        wilson(11, 10)


def balanced_accuracy_interval(
    hits: int, positives: int, rejections: int, negatives: int
) -> tuple[float, float, float]:
    """(value, low, high) of (TPR + TNR) / 2, as the scorers have it."""
    pairs = ((hits, positives), (rejections, negatives))
    tpr, tnr = (Rate(a / n, *wilson(a, n), n, float(n)) for a, n in pairs)
    return (hits / positives + rejections / negatives) / 2, *newcombe_mean(tpr, tnr)


def test_balanced_accuracy_by_hand() -> None:
    # TPR 8/10: Wilson (0.490162, 0.943318); TNR 6/10: (0.312674, 0.831820).
    # half widths: hypot(.309838, .287326) / 2 = .211279 and hypot(.143318, .231820) / 2 = .136273
    value, low, high = balanced_accuracy_interval(8, 10, 6, 10)
    assert value == pytest.approx(0.7)
    assert low == pytest.approx(0.7 - 0.211279, abs=1e-5)
    assert high == pytest.approx(0.7 + 0.136273, abs=1e-5)


def test_an_empty_class_gives_no_value() -> None:
    assert rate_of([]).value is None
    assert newcombe_mean(rate_of([]), rate_of([True])) == (0.0, 1.0)


def test_worst_case_counts_failures_as_wrong() -> None:
    # 8 of 10 judged right with 2 failed, 5 of 10 right: (8/10 + 5/10) / 2
    assert worst_case(8, 10, 5, 10) == pytest.approx(0.65)
    assert worst_case(0, 0, 5, 10) is None


def test_chance_normalisation() -> None:
    assert chance_normalised(0.8, 0.6) == pytest.approx(0.5)
    assert chance_normalised(0.6, 0.6) == 0.0
    assert chance_normalised(0.5, 0.6) == pytest.approx(-0.25)
    assert chance_normalised(1.0, 1.0) is None
    assert chance_normalised(None, 0.5) is None


def test_effective_number_by_hand() -> None:
    assert effective_n([True, False, True], ["a", "b", "c"]) == 3.0
    # Two clusters of three that agree inside: worth two observations.
    assert effective_n([True] * 3 + [False] * 3, [0, 0, 0, 1, 1, 1]) == 2.0
    # Sizes 2, 1, 1; hits 2, 0, 1; rate 3/4: residuals .5, -.75, .25; clustered variance
    # 3/2 * .875 / 16 = .0820; binomial .1875 / 4 = .0469; deff 1.75; 4 / 1.75 = 2.2857,
    # lifted to Kish's 16 / 6 = 2.6667.
    assert effective_n([True, True, False, True], [0, 0, 1, 2]) == pytest.approx(16 / 6)
    # Clusters more even than chance are worth no more than n.
    assert effective_n([True, False] * 10, [i // 2 for i in range(20)]) == 20.0
    # Equal outcomes say nothing on dependence: the least is taken.
    assert effective_n([True] * 6, [0, 0, 1, 1, 2, 2]) == 3.0
    with pytest.raises(ValueError, match="one cluster per outcome"):
        effective_n([True], [])


def _exact_coverage(n: int) -> np.ndarray:
    """Chance that the interval holds the truth, over a grid of TPR and TNR, summed over every
    possible outcome: no sampling error."""
    interval = np.array(
        [[balanced_accuracy_interval(a, n, b, n)[1:] for b in range(n + 1)] for a in range(n + 1)]
    )
    binomials = np.array([comb(n, k) for k in range(n + 1)], dtype=float)
    grid = np.arange(0.3, 0.96, 0.05)
    k = np.arange(n + 1)
    chance = {p: binomials * p**k * (1 - p) ** (n - k) for p in grid}
    return np.array(
        [
            (
                np.outer(chance[p], chance[q])
                * ((interval[..., 0] <= (p + q) / 2) & ((p + q) / 2 <= interval[..., 1]))
            ).sum()
            for p in grid
            for q in grid
        ]
    )


@pytest.mark.parametrize(
    ("n", "least", "most"), [(10, 0.90, 0.98), (20, 0.92, 0.975), (50, 0.93, 0.975)]
)
def test_the_interval_covers_as_it_says(n: int, least: float, most: float) -> None:
    coverage = _exact_coverage(n)
    assert coverage.min() >= least
    assert coverage.max() <= most
    assert coverage.mean() == pytest.approx(0.95, abs=0.004)


def test_the_interval_covers_in_simulation_with_one_example_per_document() -> None:
    rng = np.random.default_rng(0)
    n, repeats, covered = 50, 3000, 0
    documents = list(range(n))
    for right in rng.random((repeats, 2, n)) < np.array([0.85, 0.65]).reshape(1, 2, 1):
        first, second = (rate_of(row.tolist(), documents) for row in right)
        low, high = newcombe_mean(first, second)
        covered += low <= 0.75 <= high
    assert 0.93 <= covered / repeats <= 0.975


def test_the_interval_covers_where_documents_agree_with_themselves() -> None:
    """Judgements from one document share its difficulty: counting them as independent covers far
    too seldom; with documents as clusters the interval holds."""
    rng = np.random.default_rng(1)
    documents, per_document, repeats = 40, 4, 600
    clusters = np.repeat(np.arange(documents), per_document).tolist()
    naive, clustered = 0, 0
    for _ in range(repeats):
        rates = []
        for mean in (0.75, 0.7):  # intra-cluster correlation 1 / (1 + 1) = 0.5
            p = rng.beta(mean, 1 - mean, documents)
            rates.append((rng.random((documents, per_document)) < p[:, None]).ravel().tolist())
        low, high = newcombe_mean(rate_of(rates[0]), rate_of(rates[1]))
        naive += low <= 0.725 <= high
        low, high = newcombe_mean(rate_of(rates[0], clusters), rate_of(rates[1], clusters))
        clustered += low <= 0.725 <= high
    assert naive / repeats < 0.87
    assert 0.925 <= clustered / repeats <= 0.975


def test_statistics_and_prompts_need_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import monosemy.interp.statistics.rates, monosemy.interp.prompts.loader\n"
        "import monosemy.interp.registry, monosemy.interp.shown, monosemy.interp.select"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("a", "m", "b", "n", "low", "high"),
    [  # Newcombe 1998 (Statistics in Medicine 17:873), table II, method 10
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (10, 10, 0, 10, 0.6075, 1.0000),
    ],
)
def test_newcombe_gives_the_published_differences(
    a: int, m: int, b: int, n: int, low: float, high: float
) -> None:
    first = rate_of([True] * a + [False] * (m - a))
    second = rate_of([True] * b + [False] * (n - b))
    assert newcombe_difference(first, second) == pytest.approx((low, high), abs=5e-5)
    assert newcombe_difference(rate_of([]), rate_of([True])) == (-1.0, 1.0)
