"""Families of attention features: planted rules are found, and no rule where there is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from monosemy.attribution.families import (
    FAMILIES,
    Family,
    SourceShares,
    SourceTally,
    family_of,
)

ROWS, LENGTH = 24, 80
Place = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def at_places(
    rule: Place, seed: int = 0, strength: float = 0.8
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Examples whose DFA lies to ``strength`` where ``rule`` says, the rest anywhere."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 12, (ROWS, LENGTH))
    at = rng.integers(50, LENGTH, ROWS)
    dfa = np.zeros((ROWS, LENGTH))
    for row in range(ROWS):
        t = at[row]
        tokens[row, t - 15] = tokens[row, t]  # there is one at least
        dfa[row, : t + 1] = (1 - strength) / (t + 1)
        dfa[row, t + 1 :] = 5.0  # what comes later must not count
        dfa[row, rng.integers(0, t)] -= 1.0  # nor what takes away
        where = rule(tokens[row], t, rng)
        dfa[row, where] += strength / len(where)
    return dfa, tokens, at


def source_shares(dfa: np.ndarray, tokens: np.ndarray, at: np.ndarray) -> SourceShares:
    """Each example in a row of its own, some of them longer than others."""
    tally = SourceTally()
    for row in range(len(dfa)):
        length = LENGTH - row % 3 if at[row] < LENGTH - 3 else LENGTH
        tally.add(dfa[row : row + 1, :length], tokens[row, :length], at[row : row + 1])
    return tally.shares()


def same(tokens: np.ndarray, t: int, rng: np.random.Generator) -> np.ndarray:
    return np.flatnonzero(tokens[:t] == tokens[t])


def successors(tokens: np.ndarray, t: int, rng: np.random.Generator) -> np.ndarray:
    return np.flatnonzero(tokens[: t - 1] == tokens[t]) + 1


RULES: dict[Family, Place] = {
    "first token": lambda tokens, t, rng: np.array([0]),
    "previous token": lambda tokens, t, rng: np.array([t - 1]),
    "duplicate": same,
    "induction": successors,
    "local": lambda tokens, t, rng: t - 2 - rng.permutation(8)[:3],
    "long range": lambda tokens, t, rng: rng.permutation(t - 30)[:15],
}


@pytest.mark.parametrize("family", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_planted_families_are_recovered(family: Family, seed: int) -> None:
    shares = source_shares(*at_places(RULES[family], seed, 0.9))
    found = family_of(shares, np.arange(ROWS))
    assert found.family == family, found
    assert found.n == ROWS
    if found.share is not None and family != "long range":
        assert found.low is not None and found.high is not None
        assert 0.5 < found.low <= found.share <= found.high


def test_every_family_but_none_is_planted() -> None:
    assert set(RULES) | {"none"} == set(FAMILIES)


def test_what_comes_from_everywhere_has_none() -> None:
    shares = source_shares(*at_places(lambda tokens, t, rng: np.arange(t - 20, t + 1), 0, 0.7))
    assert family_of(shares, np.arange(ROWS)).family == "none"


def test_three_examples_are_the_least() -> None:
    shares = source_shares(*at_places(RULES["duplicate"]))
    assert family_of(shares, np.arange(3)).family == "duplicate"
    few = family_of(shares, np.arange(2))
    assert few.family == "none" and few.n == 2 and few.share is None
    assert family_of(shares, np.arange(0)).n == 0


def test_tokens_that_stand_where_everything_is_read_are_no_rule() -> None:
    """All features read the token 4 back, which in these rows is always an equal one."""
    tokens = np.tile(np.arange(4), (ROWS, LENGTH // 4))
    at = np.full(ROWS, 60)
    dfa = np.zeros((ROWS, LENGTH))
    dfa[:, 56] = 1.0
    found = family_of(source_shares(dfa, tokens, at), np.arange(ROWS))
    assert found.shares["duplicate"] == 1 and found.shares["duplicate_chance"] == 1
    assert found.family == "local"


def test_nothing_that_adds_is_no_family_and_no_error() -> None:
    _, tokens, at = at_places(RULES["duplicate"])
    found = family_of(source_shares(-np.ones((ROWS, LENGTH)), tokens, at), np.arange(ROWS))
    assert found.family == "none" and found.shares["first"] == 0
