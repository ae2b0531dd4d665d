"""How much the demo does: as much as this machine gets done in the minutes that somebody waits.

The text (600,000 tokens, all of them indexed) is the same everywhere.  What grows with the machine
is how often the SAE sees it and how many features are explained, from what makes the result worth
showing (FVU below .2) up to what no longer pays.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from monosemy.specs import (
    EvaluationSpec,
    ExplanationSpec,
    FeatureSelection,
    JudgeSpec,
    PipelineRun,
    ScoringSpec,
    TextSpec,
    TopKSpec,
    TrainingSpec,
)
from monosemy.threads import QUIET_WAITS

TEXT_TOKENS = 605_000
"""A few more than are to be indexed: tokens of extreme norm are left out."""
LEAST_TOKENS, MOST_TOKENS = 900_000, 2_000_000
"""Trained on.  With 700,000, FVU on held-out text was .180 and CE recovered 95.1 % (mean ablation),
which leaves no margin (docs/performance.md)."""
LEAST_FEATURES, MOST_FEATURES = 12, 24
"""To explain and score: eight are to be left, and the packaged judge has no usable answer for up to
one in four."""

_WAIT_SECONDS = 150.0
"""Until the first features, where the machine can."""
_FIXED_SECONDS = 45.0
"""Of them: loading the host model, tokenising, figures and rows of the features."""
_READ_FLOPS = 120e6
_STEP_FLOPS = 35e6
"""A token costs the time of so many operations of a bare matrix product: read by the host model and
encoded for the index; and trained on once, SAE and baseline (docs/performance.md)."""
_FAST = 4e12
"""Operations a second from which the largest number of features is explained."""


@dataclass(frozen=True)
class Size:
    """What was measured, and what follows from it."""

    flops: float
    device: str
    dtype: str
    threads: int

    @property
    def tokens(self) -> int:
        """To train on."""
        left = _WAIT_SECONDS - self._least_seconds(0)
        fitting = round(left * self.flops / _STEP_FLOPS, -5)
        return int(min(max(fitting, LEAST_TOKENS), MOST_TOKENS))

    @property
    def features(self) -> int:
        """To explain."""
        return MOST_FEATURES if self.flops >= _FAST else LEAST_FEATURES

    def _least_seconds(self, tokens: int) -> float:
        return _FIXED_SECONDS + (TEXT_TOKENS * _READ_FLOPS + tokens * _STEP_FLOPS) / self.flops

    def sentence(self) -> str:
        """For the person who waits."""
        minutes = self._least_seconds(self.tokens) / 60
        where = f"{self.threads} threads" if self.device == "cpu" else self.device
        return (
            f"This machine does {self.flops / 1e9:,.0f} GFLOP/s now ({self.dtype}, {where}), so it "
            f"trains on {self.tokens:,} tokens and explains {self.features} features; the first "
            f"features are there in about {max(minutes, 0.5):.1f} min."
        )


class Measuring:
    """Measures in a process of its own, which gets ready (imports torch) while the stack starts."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "monosemy.models.speed"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process; safe to call twice."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()

    def size(self) -> Size | None:
        """What this machine does now, in about a second; None where that cannot be measured."""
        try:
            answer, _ = self._process.communicate("\n", timeout=60)
            return Size(**json.loads(answer))
        except (OSError, ValueError, TypeError, subprocess.SubprocessError):
            return None


def _environment() -> dict[str, str]:
    """Without settings, of which measuring needs none."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MONOSEMY_")}
    return QUIET_WAITS | own


def full(size: Size | None) -> PipelineRun:
    """The demo's run on a machine of this size; the least where it is not known."""
    tokens, features = (size.tokens, size.features) if size else (LEAST_TOKENS, LEAST_FEATURES)
    return PipelineRun(
        name="demo",
        text=TextSpec(max_tokens=TEXT_TOKENS),
        # The text is seen about once: a higher rate than for many epochs.
        training=TrainingSpec(tokens=tokens, learning_rate=3e-3, host_rows=32),
        explanation=ExplanationSpec(features=FeatureSelection(count=features)),
        # By the sentence embedder, by what the host model writes, and by the judge if its test
        # shows that it can tell texts apart.
        scoring=[
            ScoringSpec(scorer="embedding"),
            ScoringSpec(scorer="intervention", positives=5),
            ScoringSpec(judge=JudgeSpec(test="require")),
        ],
    )


# The same path at a size for continuous integration.
SMALL = PipelineRun(
    name="demo-small",
    text=TextSpec(max_tokens=200_000),
    sae=TopKSpec(d_sae=1024, dead_after_tokens=50_000),
    training=TrainingSpec(tokens=200_000, buffer_tokens=16_384),
    evaluation=EvaluationSpec(tokens=2_000, reconstruction_tokens=8_000),
    explanation=ExplanationSpec(features=FeatureSelection(count=8, min_postings=200)),
    scoring=[
        ScoringSpec(scorer="embedding", positives=5, negatives=5),
        ScoringSpec(scorer="intervention", positives=4),
        ScoringSpec(positives=5, negatives=5, judge=JudgeSpec(test="require")),
    ],
)


def same_demo(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two specs (as JSON) are one demo, whatever the machine measured at either time."""
    return _without_size(one) == _without_size(other)


def _without_size(spec: dict[str, Any]) -> dict[str, Any]:
    training = {**(spec.get("training") or {}), "tokens": None}
    explanation = spec.get("explanation") or {}
    features = {**(explanation.get("features") or {}), "count": None}
    return {**spec, "training": training, "explanation": {**explanation, "features": features}}
