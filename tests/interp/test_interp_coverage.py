"""Balanced accuracy's interval under a mock judge of known hit and false-alarm rate.

The whole way from judgements to interval is simulated.  Bounds for independent examples over every
possible outcome are in ``test_interp_statistics.py``.
"""

import numpy as np
import pytest

from monosemy.interp.scorers.balanced_accuracy import balanced_accuracy
from monosemy.interp.statistics.rates import rate_of
from monosemy.interp.tiers import RANDOM
from tests.support.campaign import wider
from tests.support.mock_scoring import yes_no_scoring

# 3,000 scorings: a true coverage of 95 % is seen as 95 +- 0.8 % (two standard errors), so an
# interval that covers below 92.2 or above 97.8 % does not pass.
SCORINGS = 3000


def _coverage(seed: int, n: int, tpr: float, fpr: float, *cluster: float) -> float:
    rng = np.random.default_rng(seed)
    truth = (tpr + 1 - fpr) / 2
    covered = 0
    for _ in range(SCORINGS):
        summary = balanced_accuracy(yes_no_scoring(rng, n, tpr, fpr, *cluster), RANDOM)  # type: ignore[arg-type]
        covered += summary.low <= truth <= summary.high
    return covered / SCORINGS


@pytest.mark.parametrize(
    ("n", "tpr", "fpr"),
    [
        (20, 0.9, 0.1),
        *wider((50, 0.75, 0.05), (20, 0.6, 0.4), (50, 0.8, 0.3), (50, 0.95, 0.1), (100, 0.9, 0.1)),
    ],
)
def test_covers_93_to_97_with_one_example_per_document(n: int, tpr: float, fpr: float) -> None:
    assert 0.93 <= _coverage(0, n, tpr, fpr) <= 0.97


@pytest.mark.parametrize(
    ("n", "tpr", "fpr", "per_document", "correlation"),
    [
        (50, 0.8, 0.3, 2, 0.5),
        *wider(
            (50, 0.75, 0.05, 2, 0.5),
            (100, 0.75, 0.05, 4, 0.3),
            (100, 0.8, 0.3, 4, 0.3),
            (100, 0.6, 0.4, 4, 0.0),
        ),
    ],
)
def test_covers_93_to_97_with_25_documents_a_class(
    n: int, tpr: float, fpr: float, per_document: int, correlation: float
) -> None:
    assert 0.93 <= _coverage(1, n, tpr, fpr, per_document, correlation) <= 0.97


@pytest.mark.parametrize(
    ("n", "tpr", "fpr", "per_document", "correlation"),
    [
        (10, 0.95, 0.02, 1, 0.0),  # 0.6 false answers in 20: hardly ever seen
        (10, 0.9, 0.1, 2, 0.3),
        *wider((10, 0.75, 0.05, 1, 0.0), (50, 0.9, 0.1, 5, 0.6), (100, 0.9, 0.1, 10, 0.3)),
    ],
)
def test_ten_documents_a_class_cover_90_to_98(
    n: int, tpr: float, fpr: float, per_document: int, correlation: float
) -> None:
    """The open restriction: 10 documents or fewer do not show how they differ, and rates near the
    ends are discrete."""
    assert 0.895 <= _coverage(2, n, tpr, fpr, per_document, correlation) <= 0.98


def test_few_documents_count_for_less_but_never_less_than_one_each() -> None:
    documents = [i // 5 for i in range(50)]
    rng = np.random.default_rng(0)
    for _ in range(200):
        outcomes = (rng.random(50) < np.repeat(rng.beta(1, 1, 10), 5)).tolist()
        rate = rate_of(outcomes, documents)
        assert 10 - 1e-9 <= rate.effective_n <= 50
    # Clusters of 3, 3, 2, 2 with 3, 2, 1, 0 hits: rate .6; residuals 1.2, .2, -.2, -1.2; clustered
    # variance 4/3 * 2.96 / 100 = .039467; binomial .024; deff 1.6444, 10 / deff = 6.0811; Student's
    # critical values at 9 and 5.0811 degrees of freedom are 2.2622 and 2.5587 (2.5706 at 5): times
    # .7817 = 4.7535; Kish's least is 100 / 26 = 3.846.
    dependent = rate_of(
        [True] * 5 + [False, True, False, False, False], [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]
    )
    assert dependent.effective_n == pytest.approx(4.7535, abs=0.01)
