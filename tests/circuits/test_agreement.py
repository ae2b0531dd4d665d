"""Measures of a ranking, known answers."""

from __future__ import annotations

import numpy as np
import pytest

from monosemy.circuits.agreement import (
    average_precision,
    between,
    interval,
    jaccard,
    over_heads,
    precision_recall_f1,
    roc_auc,
    top,
)


def test_known_answers() -> None:
    scores = np.array([3.0, 2, 2, 1, 0])
    member = np.array([True, True, False, False, False])
    assert roc_auc(scores, member) == pytest.approx(5.5 / 6)
    assert roc_auc(-scores, member) == pytest.approx(0.5 / 6)
    assert average_precision(scores, member) == pytest.approx((1 + 2 / 3) / 2)
    assert precision_recall_f1(scores >= 2, member) == pytest.approx((2 / 3, 1, 0.8))
    assert precision_recall_f1(scores > 9, member) == (0, 0, 0)
    assert np.isnan(roc_auc(scores, member & False)) and np.isnan(
        average_precision(scores, member & False)
    )
    assert top(scores, 3) == [0, 1, 2]
    assert jaccard({1, 2, 3}, {2, 3, 4}) == 0.5 and jaccard(set(), set()) == 0


def test_they_agree_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")

    rng = np.random.default_rng(0)
    scores, member = rng.integers(8, size=200).astype(float), rng.uniform(size=200) < 0.2
    assert roc_auc(scores, member) == pytest.approx(metrics.roc_auc_score(member, scores))
    precision = metrics.average_precision_score(member, scores)
    assert average_precision(scores, member) == pytest.approx(precision)


def test_intervals_hold_the_value() -> None:
    rng = np.random.default_rng(1)
    member = np.arange(100) < 20
    scores = rng.standard_normal(100) + member
    found = over_heads(roc_auc, scores, member)
    assert found.low < found.value < found.high and found == over_heads(roc_auc, scores, member)
    wide = over_heads(roc_auc, scores[::4], member[::4])
    assert wide.high - wide.low > found.high - found.low
    assert interval([float("nan"), 2.0]) == (2.0, 2.0)


def test_runs_are_compared_pair_by_pair() -> None:
    values = [0.0, 1.0, 3.0]
    found = between(lambda a, b: abs(values[a] - values[b]), 3)
    assert found is not None and found.value == pytest.approx((1 + 3 + 2) / 3)
    assert 1 <= found.low <= found.value <= found.high <= 3
    assert between(lambda a, b: 1.0, 1) is None
