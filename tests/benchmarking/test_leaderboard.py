"""Leaderboards: aligned by unit, grouped by recipe, held against one."""

from __future__ import annotations

import datetime as dt
import uuid

import numpy as np
import pytest

from monosemy.benchmarking.leaderboard import Entry, leaderboard
from monosemy.errors import SpecError
from monosemy.specs.rest.benchmarks import Leaderboard
from tests.support.benchmark_rows import UNITS, about, header, metric

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def entry(name: str, values: list[float | None], recipe: str, seed: int = 0) -> Entry:
    return Entry(
        id=uuid.uuid5(uuid.NAMESPACE_OID, name),
        sae=name,
        about=about(recipe, seed),
        units=UNITS,
        metrics=[metric(values, "sae"), metric([0.1] * len(values), "random")],
        notes=["Said once."],
    )


def rng_values(mean: float, seed: int) -> list[float | None]:
    return [float(each) for each in mean + 0.01 * np.random.default_rng(seed).normal(size=12)]


def made(*entries: Entry, against: str | None = None, ranks: bool = True) -> Leaderboard:
    board = header(len(entries), ranks)
    return leaderboard(board, entries, "auc", ["auc"], "task", against)


THREE = (
    entry("weak", rng_values(0.6, 1), "a", 0),
    entry("strong", rng_values(0.9, 2), "b", 0),
    entry("strong too", rng_values(0.9, 3), "b", 1),
)


def test_the_best_come_first_with_the_ranks_that_cannot_be_excluded() -> None:
    board = made(*THREE)
    names = [each.sae for each in board.rows]
    assert names[-1] == "weak" and board.against == names[0]
    assert [(each.best_rank, each.worst_rank) for each in board.rows] == [(1, 2), (1, 2), (3, 3)]
    assert (board.pairs, board.apart, board.units, board.families) == (3, 2, 12, 12)
    first, second, last = (each.difference for each in board.rows)
    assert first is None and second is not None and not second.apart
    assert last is not None and last.apart and last.value < -0.2
    assert [each.subject for each in board.rows[0].beside] == ["random"]
    assert board.notes == ["Said once."]


def test_seeds_of_a_recipe_stand_together() -> None:
    strong, weak = made(*THREE).recipes
    assert sorted(strong.saes) == ["strong", "strong too"] and weak.saes == ["weak"]
    assert weak.seed_sd is None and strong.seed_sd is not None and strong.seed_sd < 0.05
    assert strong.mean == pytest.approx(0.9, abs=0.02)


def test_units_are_aligned_by_name() -> None:
    one, two = entry("one", list(np.linspace(0, 1, 12)), "a"), entry("two", [], "b")
    backwards = UNITS[::-1]
    two = Entry(
        **{**vars(two), "units": backwards, "metrics": [metric(list(np.linspace(1, 0, 12)), "sae")]}
    )
    board = made(one, two)
    difference = board.rows[1].difference
    assert difference is not None and not difference.apart
    assert difference.low == pytest.approx(0, abs=1e-12) == difference.high


def test_they_are_held_against_whoever_is_named() -> None:
    board = made(*THREE, against="weak")
    assert board.against == "weak"
    assert [each.difference is None for each in board.rows] == [False, False, True]
    assert all(each.difference.value > 0.2 for each in board.rows if each.difference)
    with pytest.raises(SpecError, match="'nobody' was not measured by this protocol"):
        made(*THREE, against="nobody")


def test_a_diagnostic_ranks_nobody_and_one_without_a_value_comes_last() -> None:
    board = made(*THREE, entry("empty", [None] * 12, "c"), ranks=False)
    assert {each.best_rank for each in board.rows} == {None}
    assert board.rows[-1].sae == "empty" and board.rows[-1].figure.value is None
    assert board.notes[0] == "SAEs are not ranked by this benchmark."
    assert [each.recipe for each in board.recipes] == ["b", "a"]
    assert made(THREE[0]).against is None
