"""What heads a feature: an explanation that has shown that it predicts, else the evidence label.

The rule, for rows, REST, CLI and notebook alike: of a feature's explanations the one leads whose
score's 95 % interval begins highest above its baseline (another feature's explanation, by the same
scorer on the same texts); it heads the feature if that is above 0.  Scores without such a baseline
show nothing of the kind, and people's explanations are no exception.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

HEADINGS = ("not explained", "explained, not told apart", "explanation told apart")
"""Kinds of features: without an explanation; with none whose score clears its baseline; headed by
one that does."""


@dataclass(frozen=True)
class Candidate:
    """An explanation with one of its scores, or without any."""

    explanation: str
    """Its label."""
    scorer: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    baseline: float | None = None


@dataclass(frozen=True)
class Heading:
    """What a feature is called, and why."""

    text: str
    source: Literal["explanation", "evidence"]
    """Whether an explanation's label or the evidence label."""
    why: str
    """The score that decided, or what is missing."""


def margin(low: Any, baseline: Any) -> Any:
    """How far above its baseline a score's interval begins; of columns as of numbers."""
    return low - baseline


def is_told_apart(low: float | None, baseline: float | None) -> bool | None:
    """Whether a score's interval lies above its baseline; None where there is none to look at."""
    return None if low is None or baseline is None else bool(margin(low, baseline) > 0)


def leading(candidates: Iterable[Candidate]) -> Candidate | None:
    """The one that leads; of equal ones the first."""
    return max(candidates, key=lambda each: _margin(each, float("-inf")), default=None)


def heading(evidence_label: str, candidate: Candidate | None) -> Heading:
    """The heading of a feature of which ``candidate`` leads."""
    if candidate is None:
        return Heading(evidence_label, "evidence", "It has no explanation.")
    if candidate.low is None or candidate.baseline is None:
        why = "None of its explanations has a score beside that of another feature's explanation."
        return Heading(evidence_label, "evidence", why)
    comparison = (
        f"{candidate.scorer} {candidate.value:.2f} (95 % {candidate.low:.2f} to "
        f"{candidate.high:.2f}; another feature's explanation: {candidate.baseline:.2f})"
    )
    if is_told_apart(candidate.low, candidate.baseline):
        return Heading(candidate.explanation, "explanation", f"{comparison}.")
    return Heading(
        evidence_label,
        "evidence",
        f"No score of an explanation clears its shuffled baseline: {comparison}.",
    )


def _margin(candidate: Candidate, missing: float) -> float:
    if candidate.low is None or candidate.baseline is None:
        return missing
    return float(margin(candidate.low, candidate.baseline))
