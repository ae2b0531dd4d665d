"""What has to be known of a run that succeeded is data, not only a line of its log."""

from __future__ import annotations

from typing import Any

import pytest

from service.runs.warnings import warnings_of

WEAK = {
    "role": "explaining",
    "accuracy": 0.325,
    "low": 0.2,
    "high": 0.48,
    "n": 40,
    "n_failed": 13,
    "chance": 0.15,
    "verdict": "weak",
}


def test_a_weak_judge_failed_features_and_an_early_end_are_warned_of() -> None:
    result = {
        "judge_test": WEAK,
        "stopped": "the budget is spent",
        "failed": 2,
        "failures": {"3": "no answer", "9": "no answer"},
        "warnings": ["said by the worker"],
    }
    said, stopped, judge, failed = warnings_of("interp", result)
    assert said == "said by the worker" and stopped.endswith("the budget is spent")
    assert "It explains weakly: 0.33 right" in judge and "guessing 0.15" in judge
    assert failed == "2 features could not be done: no answer"


def test_a_good_judge_and_a_pipeline_are_not() -> None:
    assert warnings_of("interp", {"judge_test": {**WEAK, "verdict": "good"}, "failed": 0}) == []
    assert warnings_of("none", {"stopped": "of a step"}) == []
    assert warnings_of("gpu", None) == []


def test_the_same_is_not_said_twice() -> None:
    (first,) = warnings_of("interp", {"judge_test": WEAK})
    twice = warnings_of("interp", {"judge_test": WEAK, "stopped": first.split(": ", 1)[1]})
    assert len(twice) == 1 and twice[0].startswith("It ended before")


@pytest.mark.parametrize(
    "odd",
    [
        {"judge_test": "good"},
        {"judge_test": {**WEAK, "accuracy": "high"}},
        {"judge_test": {**WEAK, "verdict": "splendid"}},
        {"warnings": "one"},
        {"warnings": [1, None]},
        {"failed": "2"},
        {"failed": True, "failures": 3},
        {"failures": ["a"]},
    ],
)
def test_what_a_plugin_leaves_is_not_trusted(odd: dict[str, Any]) -> None:
    assert all(isinstance(each, str) for each in warnings_of("gpu", odd))
