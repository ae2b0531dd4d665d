"""Contrasts of texts: planted differences are found, chance is called chance."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from monosemy.interp.contrast import Statistic, contrast, labellings, scores
from monosemy.interp.statistics import ranks

STATISTICS: list[Statistic] = ["auroc", "standardised", "share"]


def sparse(rng: np.random.Generator, n: int, features: int) -> np.ndarray:
    return np.maximum(rng.normal(-0.5, 1, (n, features)), 0).round(1)  # with ties and zeros


def test_areas_are_those_of_the_library() -> None:
    rng = np.random.default_rng(0)
    values = sparse(rng, 17, 40)
    labels = np.arange(17) < 7
    result = contrast(values, labels, np.arange(40), "auroc", 40)
    both = [*result.positive, *result.negative]
    assert len(both) > 30
    for each in both:
        column = values[:, each.feature]  # rounded to a decimal: further apart than RESOLUTION
        area = ranks.auroc(column[labels], column[~labels])
        assert each.auroc == pytest.approx(area, abs=1e-12)
        assert each.statistic == pytest.approx(area - 0.5, abs=1e-8)
        assert each.mean_positive == pytest.approx(column[labels].mean(), rel=1e-3)
        assert each.share_negative == pytest.approx((column[~labels] > 0).mean())
        difference = column[labels].mean() - column[~labels].mean()
        assert each.standardised == pytest.approx(difference / column.std(), abs=1e-3)


def test_a_known_answer() -> None:
    """3 + 3 texts: 20 labellings; only the true one gives feature 9 all the positives."""
    values = np.zeros((6, 3))
    values[:, 0] = [5, 4, 3, 0, 0, 0]
    values[:, 1] = [1, 1, 1, 1, 1, 1]  # fires everywhere alike: tells nothing
    values[:, 2] = [0, 0, 2, 2, 2, 2]
    labels = [True] * 3 + [False] * 3
    result = contrast(values, labels, [9, 4, 7], "auroc", 5)
    assert (result.relabellings, result.exact) == (20, True)
    (best,), (other,) = result.positive, result.negative
    assert (best.feature, best.auroc, best.p_value) == (9, 1.0, 1 / 20)
    assert (best.share_positive, best.share_negative, best.mean_positive) == (1.0, 0.0, 4.0)
    assert other.feature == 7
    assert other.auroc == pytest.approx(1 / 6)  # 1 of 3 ties with all: (0 + 0 + 1/2) / 3
    # Towards the negatives, feature 9 separates as well under the one labelling turned about, and
    # feature 7 itself under all that have its two zeros on one side.
    expected = 0
    for chosen in combinations(range(6), 3):
        turned = np.isin(np.arange(6), chosen)
        areas = [ranks.auroc(values[turned, f], values[~turned, f]) for f in range(3)]
        expected += min(areas) <= 1 / 6 + 1e-12
    assert other.p_value == pytest.approx(expected / 20)


def test_values_as_good_as_equal_are_equal() -> None:
    """What only the rounding of another batch would tell apart tells nothing."""
    values = np.array([[3.0, 1.0], [3.000001, 1.0], [2.999999, 1.0], [3.0, 0.5]])
    result = contrast(values, [True, True, False, False], [0, 1], "auroc", 4)
    assert [d.feature for d in result.positive] == [1] and not result.negative


@pytest.mark.parametrize("statistic", STATISTICS)
def test_the_classes_turned_about_turn_the_answer_about(statistic: Statistic) -> None:
    values = sparse(np.random.default_rng(1), 9, 30)
    labels = np.arange(9) % 2 == 0
    one = contrast(values, labels, np.arange(30), statistic, 30)
    other = contrast(values, ~labels, np.arange(30), statistic, 30)
    assert one.exact and one.positive
    assert [(d.feature, d.p_value) for d in one.positive] == [
        (d.feature, d.p_value) for d in other.negative
    ]
    assert [d.statistic for d in one.positive] == pytest.approx(
        [-d.statistic for d in other.negative]
    )


@pytest.mark.parametrize("statistic", STATISTICS)
def test_planted_features_lead(statistic: Statistic) -> None:
    rng = np.random.default_rng(2)
    values = sparse(rng, 40, 5000)
    labels = rng.permutation(40) < 20
    for feature in (17, 4200):
        values[:, feature] = np.where(labels, rng.uniform(2, 3, 40), 0)
    values[:, 3] = np.where(labels, 0, rng.uniform(2, 3, 40))
    result = contrast(values, labels, np.arange(5000), statistic, 5)
    assert {d.feature for d in result.positive[:2]} == {17, 4200}
    assert result.negative[0].feature == 3
    assert not result.exact and result.relabellings == 1000
    assert [d.p_value for d in result.positive[:2]] == [0.001, 0.001]
    assert result.positive[2].p_value > 0.05
    assert result.positive[2].p_value <= result.positive[3].p_value


@pytest.mark.parametrize("statistic", STATISTICS)
def test_chance_is_called_so(statistic: Statistic) -> None:
    """Labels that mean nothing: the best of 300 features has p <= 0.1 one time in ten."""
    rng = np.random.default_rng(3)
    rounds, low = 200, 0
    for _ in range(rounds):
        values = sparse(rng, 10, 300)
        result = contrast(values, np.arange(10) < 5, np.arange(300), statistic, 1)
        low += result.positive[0].p_value <= 0.1
    assert low / rounds <= 0.1 + 3 * np.sqrt(0.09 / rounds)


def test_columns_that_never_fire_change_nothing() -> None:
    values = sparse(np.random.default_rng(4), 12, 20)
    labels = np.arange(12) < 5
    alone = contrast(values, labels, np.arange(20), "auroc", 20)
    padded = contrast(
        np.concatenate([values, np.zeros((12, 30))], 1), labels, np.arange(50), "auroc", 50
    )
    assert padded == alone


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    values = sparse(np.random.default_rng(5), 12, 100)
    labels = np.arange(12) < 6
    whole = contrast(values, labels, np.arange(100), "standardised", 10)
    monkeypatch.setattr("monosemy.interp.contrast._BLOCK", 7)
    parts = contrast(values, labels, np.arange(100), "standardised", 10)
    assert [d.feature for d in parts.positive] == [d.feature for d in whole.positive]
    assert [d.p_value for d in parts.negative] == [d.p_value for d in whole.negative]


def test_labellings() -> None:
    true = np.array([False, True, True, False, False])
    all_of_them, exact = labellings(true, 999, 0)
    assert exact and len(all_of_them) == 10
    assert len(np.unique(all_of_them, axis=0)) == 10
    assert (all_of_them[0] == true).all() and (all_of_them.sum(1) == 2).all()
    some, exact = labellings(true, 8, 0)
    assert not exact and len(some) == 9 and (some[0] == true).all() and (some.sum(1) == 2).all()


def test_what_has_no_contrast_is_refused() -> None:
    with pytest.raises(ValueError, match="both classes"):
        contrast(np.ones((2, 1)), [True, True], [0], "auroc", 1)
    with pytest.raises(ValueError, match="shape"):
        contrast(np.ones((2, 1)), [True, False], [0, 1], "auroc", 1)
    with pytest.raises(ValueError, match="not finite"):
        contrast([[np.nan], [1]], [True, False], [0], "auroc", 1)
    nothing = contrast(np.zeros((3, 0)), [True, False, False], [], "share", 4)
    assert nothing.positive == [] == nothing.negative
    assert not scores(np.full((7, 2), 0.1), "standardised").any()


def test_values_are_told_text_by_text() -> None:
    values = np.array([[3.0, 0.0], [2.0, 0.5], [0.0, 1.0], [0.25, 1 / 3]])
    labels = [True, True, False, False]
    plain = contrast(values, labels, [7, 9], "standardised", 2)
    told = contrast(values, labels, [7, 9], "standardised", 2, with_values=True)
    assert plain.positive[0].values is None
    assert told.positive[0].values == pytest.approx([3.0, 2.0, 0.0, 0.25], abs=3e-4)
    assert told.negative[0].values == pytest.approx([0.0, 0.5, 1.0, 1 / 3], abs=1e-4)
    assert told.positive[0].p_value == plain.positive[0].p_value
