"""What the demo says of its judge, and which scores it shows because of that."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from monosemy.specs import PipelineRun
from service.cli.demo_report import _best_scorer, _judge, _scores
from service.cli.demo_size import SMALL, full

EXPLAINS = {
    "role": "explaining",
    "accuracy": 0.8,
    "low": 0.65,
    "high": 0.9,
    "n": 40,
    "n_failed": 0,
    "chance": 0.15,
    "verdict": "good",
}
DETECTS = {**EXPLAINS, "role": "detecting", "accuracy": 0.51, "n": 80, "verdict": "chance"}
MEANS: dict[str, Any] = dict.fromkeys(
    ("mean_value", "mean_baseline", "mean_gain", "gain_low", "gain_high")
)
RUN = {
    "result": {
        "explain": {"judge_test": EXPLAINS},
        "scores": [
            {
                "scorer": "detection",
                "scored": 0,
                **MEANS,
                "judge_test": DETECTS,
                "stopped": "noise",
            },
            {"scorer": "embedding", "scored": 8, **MEANS},
        ],
    }
}


def test_a_judge_at_chance_is_said_and_its_scores_are_left_out() -> None:
    console = Console(file=io.StringIO(), width=300)
    _judge(RUN, console)
    console.print(_scores(RUN))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "explaining: good, 0.80 right (95 % 0.65 to 0.90, n = 40; guessing 0.15)" in shown
    assert "detecting: at chance, 0.51 right" in shown
    assert "Not scored by detection: noise" in shown
    table = shown[shown.index("Mean scores") :]
    assert "embedding" in table and "detection" not in table
    assert _best_scorer(RUN) == "embedding"
    assert _best_scorer({"result": {}}) == "detection"


def test_the_demo_scores_first_by_what_needs_no_judge() -> None:
    for spec in (full(None), SMALL):
        assert isinstance(spec, PipelineRun) and spec.scoring is not None
        assert spec.scoring[0].scorer == "embedding"
        assert [each.judge.test for each in spec.scoring if each.scorer == "detection"] == [
            "require"
        ]
