"""Strata of activation have one name each, and those without a text are told."""

from __future__ import annotations

import pytest

from monosemy.interp import strata


@pytest.mark.parametrize(
    ("number", "count", "words"),
    [
        (0, 5, "fifth 1 (weakest)"),
        (2, 5, "fifth 3"),
        ("9", 10, "tenth 10 (strongest)"),
        (0, 1, "stratum 1"),
        (6, 7, "stratum 7 (strongest)"),
        ("top", 5, "top"),
    ],
)
def test_names(number: int | str, count: int, words: str) -> None:
    assert strata.name(number, count) == words


def test_untested_strata_are_told() -> None:
    assert strata.how_many(["5", "9", None, "top"]) == 10
    assert "tenths 1 to 5 of 10" in strata.untested(["5", "6", "7", "8", "9"])
    assert "fifth 2 of 5" in strata.untested([0, 2, 3, 4])
    assert "tenths 1, 3 of 10" in strata.untested([1, *range(3, 10)])
    assert strata.untested(range(5)) == "" == strata.untested([])
