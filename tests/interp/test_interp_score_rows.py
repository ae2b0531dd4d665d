"""A row of scores as a report reads it, whatever its details are."""

from __future__ import annotations

from typing import Any

import pytest

from monosemy.errors import DataError
from monosemy.interp.report.table import scored

ROW = {
    "scorer": "detection", "metric": "balanced_accuracy", "value": 0.7, "low": 0.6, "high": 0.8,
    "n": 20, "n_failed": 0,
}  # fmt: skip


@pytest.mark.parametrize("odd", ["text", 7, None, [1], True, {"a": "b"}, {"a": {"value": "x"}}])
@pytest.mark.parametrize(
    "name",
    [
        *("tiers", "recall_by_group", "by_group", "baseline", "empty", "natural_precision"),
        *("usage", "looks", "chance"),
    ],
)
def test_details_of_another_form_are_not_known(name: str, odd: Any) -> None:
    """They may be somebody else's; the score itself is still one."""
    read = scored({**ROW, "details": {name: odd}})
    assert read.own == scored({**ROW, "details": {}}).own
    assert (read.tiers, read.strata, read.baselines) == ({}, {}, {})
    assert read.natural_precision is None and read.chance in (0.5, None, 7)
    for details in ("text", None, [1]):
        assert scored({**ROW, "details": details}).own == read.own


def test_what_of_the_details_can_be_read_is_kept() -> None:
    tiers = {"random": {"value": 0.75}, "odd": {"value": "high"}, "none": 5}
    half = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 20, "n_failed": 0, "usage": {"calls": "x"}}
    read = scored({**ROW, "details": {"tiers": tiers, "baseline": half, "usage": {"calls": 3}}})
    assert read.tiers == {"random": 0.75} and read.usage.calls == 3
    assert read.baselines["shuffled"].value == 0.5 and read.baseline_usage.calls == 0
    with pytest.raises(DataError, match="no row of scores"):
        scored({"scorer": "detection"})
