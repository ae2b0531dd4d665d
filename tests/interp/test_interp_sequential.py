"""Pocock's constants, the cutting of items, and coverage under optional stopping."""

import numpy as np
import pytest

from monosemy.interp.scorers.auroc import auroc
from monosemy.interp.scorers.balanced_accuracy import balanced_accuracy
from monosemy.interp.scorers.result import Judgement
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.statistics.sequential import Looks, critical_value, stays_within
from monosemy.interp.tiers import RANDOM
from tests.support.campaign import wider
from tests.support.mock_scoring import graded_scoring, yes_no_scoring


@pytest.mark.parametrize(
    ("looks", "constant"),  # Jennison and Turnbull, Group Sequential Methods (2000), table 2.1
    list(enumerate([1.960, 2.178, 2.289, 2.361, 2.413, 2.453, 2.485, 2.512, 2.535, 2.555], 1)),
)
def test_pococks_constants_at_95_percent(looks: int, constant: float) -> None:
    assert critical_value(looks) == pytest.approx(constant, abs=6e-4)


@pytest.mark.parametrize(
    ("looks", "level", "constant"),  # the same table, alpha = 0.01 and 0.1
    [(2, 0.99, 2.772), (5, 0.99, 2.986), (2, 0.9, 1.875), (5, 0.9, 2.122), (20, 0.95, 2.672)],
)
def test_pococks_constants_at_other_levels(looks: int, level: float, constant: float) -> None:
    assert critical_value(looks, level) == pytest.approx(constant, abs=6e-4)


def test_the_integral_against_a_walk() -> None:
    """2e5 walks: standard error 0.05 %."""
    walks = np.random.default_rng(0).standard_normal((200_000, 7)).cumsum(axis=1)
    inside = (np.abs(walks / np.sqrt(np.arange(1, 8))) <= 2.2).all(axis=1).mean()
    assert stays_within(2.2, 7) == pytest.approx(inside, abs=0.002)


def test_critical_values_rise_with_looks_and_level() -> None:
    values = [critical_value(k) for k in range(1, 30)]
    assert values == sorted(values)
    assert critical_value(1) == pytest.approx(Z95, abs=1e-6)
    assert critical_value(4, 0.99) > critical_value(4)
    for looks, level in ((0, 0.95), (1001, 0.95), (2, 1.0), (2, 0.0)):
        with pytest.raises(ValueError, match="looks at level"):
            critical_value(looks, level)


@pytest.mark.parametrize(("n", "count"), [(100, 5), (103, 5), (7, 7), (3, 5), (0, 4), (10, 1)])
def test_chunks_are_all_items_in_order_and_even(n: int, count: int) -> None:
    chunks = Looks(count, 0.1).chunks(n)
    assert [item for chunk in chunks for item in chunk] == list(range(n))
    assert len(chunks) == count
    sizes = [len(chunk) for chunk in chunks]
    assert max(sizes) - min(sizes) <= 1


def test_looks_know_their_critical_value_and_when_to_stop() -> None:
    looks = Looks(5, 0.08)
    assert looks.z == critical_value(5)
    assert looks.enough(0.7, 0.85)
    assert not looks.enough(0.7, 0.87)
    for count, half_width in ((0, 0.1), (3, 0.0)):
        with pytest.raises(ValueError, match=r"looks|half-width"):
            Looks(count, half_width)


def _until_narrow(judgements: list[Judgement], looks: Looks, summarise, z: float):  # type: ignore[no-untyped-def]
    """What the rule reports: the first interval that is narrow enough, else the last."""
    positives = [j for j in judgements if j.truth]
    negatives = [j for j in judgements if not j.truth]
    seen: list[Judgement] = []
    for first, second in zip(
        looks.chunks(len(positives)), looks.chunks(len(negatives)), strict=True
    ):
        seen += [positives[i] for i in first] + [negatives[i] for i in second]
        summary = summarise(seen, RANDOM, z)
        if looks.enough(summary.low, summary.high):
            break
    return summary, len(seen)


# 1,500 scorings: two standard errors are 1.1 % at 95 %, so a rule that covers 95 % passes, and
# one that covers 93 % fails nine times in ten.
SCORINGS = 1500
LEAST = 0.95 - 2 * (0.95 * 0.05 / SCORINGS) ** 0.5


@pytest.mark.parametrize(
    ("tpr", "fpr", "half_width", "per_document", "correlation"),
    [
        (0.75, 0.3, 0.10, 1, 0.0),
        (0.8, 0.2, 0.11, 2, 0.3),
        *wider((0.9, 0.1, 0.08, 1, 0.0), (0.75, 0.05, 0.08, 4, 0.3)),
    ],
)
def test_balanced_accuracy_covers_when_stopped_at_will(
    tpr: float, fpr: float, half_width: float, per_document: int, correlation: float
) -> None:
    rng = np.random.default_rng(0)
    looks = Looks(5, half_width)
    truth = (tpr + 1 - fpr) / 2
    covered, used = 0, []
    for _ in range(SCORINGS):
        judgements = yes_no_scoring(rng, 100, tpr, fpr, per_document, correlation)
        summary, n = _until_narrow(judgements, looks, balanced_accuracy, looks.z)
        covered += summary.low <= truth <= summary.high
        used.append(n)
    assert covered / SCORINGS >= LEAST
    # The rule is put to the test: it stops early, and not always at the same look.
    assert len(set(used)) > 1
    assert np.mean(used) < 190


@pytest.mark.parametrize("area", [0.7, *wider(0.9)])
def test_auroc_covers_when_stopped_at_will(area: float) -> None:
    rng = np.random.default_rng(1)
    looks = Looks(5, 0.09)
    covered, used = 0, []
    for _ in range(SCORINGS):
        summary, n = _until_narrow(graded_scoring(rng, 80, 80, area), looks, auroc, looks.z)
        covered += summary.low <= area <= summary.high
        used.append(n)
    assert covered / SCORINGS >= LEAST
    assert len(set(used)) > 1


def test_looking_often_and_choosing_breaks_a_plain_interval() -> None:
    """What the larger critical value is for: over five looks, that all intervals hold the truth
    is 95 % likely with it, and some 87 % without."""
    rng = np.random.default_rng(2)
    looks = Looks(5, 0.001)
    held = {looks.z: 0, Z95: 0}
    for _ in range(SCORINGS):
        judgements = yes_no_scoring(rng, 200, 0.8, 0.3)
        for z in held:
            intervals = []
            for chunk in looks.chunks(200):
                seen = judgements[: chunk.stop] + judgements[200 : 200 + chunk.stop]
                intervals.append(balanced_accuracy(seen, RANDOM, z))
            held[z] += all(i.low <= 0.75 <= i.high for i in intervals)
    assert held[looks.z] / SCORINGS >= LEAST
    assert held[Z95] / SCORINGS < 0.90
