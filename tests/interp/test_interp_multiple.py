"""Benjamini and Hochberg's procedure against their own example and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from monosemy.interp.statistics.multiple import adjusted, benjamini_hochberg

PUBLISHED = [
    *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
    *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000),
]
"""The fifteen p-values of Benjamini and Hochberg (1995), section 3.2: they reject four at 0.05."""


def test_the_papers_example() -> None:
    rng = np.random.default_rng(0)
    adjusted_values = benjamini_hochberg(rng.permutation(PUBLISHED).tolist())
    assert (
        adjusted_values.n,
        adjusted_values.count,
        adjusted_values.cut,
        adjusted_values.uncorrected,
    ) == (15, 4, 0.0095, 9)


def test_a_larger_p_value_can_carry_smaller_ones() -> None:
    """Step-up: 0.03 alone fails its own place (0.025), 0.04 holds the second (0.05)."""
    assert benjamini_hochberg([0.04, 0.03]).count == 2
    assert benjamini_hochberg([0.06, 0.03]).count == 0


def test_adjusted_values_by_hand() -> None:
    # 4 x 0.01 / 1, 4 x 0.04 / 2, 4 x 0.05 / 3 (smaller, hence also the second's), 4 x 0.9 / 4.
    adjusted_values = adjusted([0.9, 0.01, 0.05, 0.04])
    np.testing.assert_allclose(adjusted_values, [0.9, 0.04, 0.2 / 3, 0.2 / 3])


def test_none_and_nonsense() -> None:
    assert benjamini_hochberg([]).as_dict()["count"] == 0
    for p_values in ([1.1], [-0.1], [float("nan")]):
        with pytest.raises(ValueError, match="outside"):
            benjamini_hochberg(p_values)
    with pytest.raises(ValueError, match="rate"):
        benjamini_hochberg([0.1], 2.0)


def test_the_rate_of_false_discoveries_holds() -> None:
    """80 true nulls among 100: expected false share 0.05 x 80 / 100 = 0.04."""
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(2000):
        p = np.concatenate([rng.random(80), rng.beta(0.02, 5.0, 20)])
        rejected = adjusted(p) <= 0.05
        shares.append(rejected[:80].sum() / max(1, rejected.sum()))
    assert np.mean(shares) == pytest.approx(0.04, abs=0.006)
