"""The result of scoring an explanation: judgements of examples, and the score over them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from monosemy.interp.judge_test.result import RoleTest
from monosemy.interp.judging.usage import Usage
from monosemy.interp.statistics.rates import chance_normalised

MEAN_SURPRISAL_CHANGE = "mean_surprisal_change"
UNBOUNDED = frozenset({MEAN_SURPRISAL_CHANGE})
"""Metrics without a largest value, of which no share between chance and perfect can be told."""


@dataclass(frozen=True)
class Judgement:
    """One example, judged.

    A scorer sets what it has: a yes-or-no ``answer``, a graded ``value`` (a probability, a
    similarity, a difference of log probabilities), or ``real`` and ``simulated`` activations, one
    per token.  None of them: no usable answer came.
    """

    row: int
    position: int
    document: int
    tier: str
    """``activating``, or the kind of negative it is (``monosemy.interp.tiers``)."""
    group: str | int
    """Stratum of the activation (0 weakest) of an activating example; else the tier."""
    truth: bool
    answer: bool | None = None
    value: float | None = None
    real: tuple[float, ...] | None = None
    simulated: tuple[float, ...] | None = None

    @property
    def id(self) -> str:
        """Names the example among those of its feature."""
        return f"{self.tier}:{self.row}:{self.position}"

    @property
    def failed(self) -> bool:
        return self.answer is None and self.value is None and self.simulated is None

    def as_dict(self) -> dict[str, Any]:
        """Without what this scorer does not set; ``answer`` always."""
        kept = {key: value for key, value in asdict(self).items() if value is not None}
        return {**kept, "answer": self.answer}


@dataclass(frozen=True)
class Judged:
    """Judgements with what they cost."""

    judgements: tuple[Judgement, ...]
    usage: Usage = field(default_factory=Usage)
    details: dict[str, Any] = field(default_factory=dict)
    """What is worth keeping of the judging besides single judgements; of two, the later's."""

    def __add__(self, other: Judged) -> Judged:
        usage = Usage()
        usage.add(self.usage)
        usage.add(other.usage)
        details = {**self.details, **other.details}
        return Judged(self.judgements + other.judgements, usage, details)


@dataclass(frozen=True)
class Summary:
    """The score of some judgements."""

    metric: str
    value: float | None
    """None where the metric is not defined, as when one class has no judgement at all."""
    low: float
    high: float
    """Ends of the interval: 95 %, or as wide as the critical value that was asked for."""
    worst_case: float | None
    """The value if every failed judgement had been wrong; None where that has no meaning."""
    details: dict[str, Any]

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class ScoreResult:
    """A score that can be taken for what it is: value, n, interval, and all behind them."""

    scorer: str
    metric: str
    value: float | None
    low: float
    high: float
    """95 % interval."""
    n: int
    """Examples judged."""
    n_failed: int
    """Examples without a usable answer: not in ``value``, counted as wrong in ``worst_case``."""
    worst_case: float | None
    details: dict[str, Any]
    """Of the summary, and under ``provenance`` all it takes to ask the same again."""
    usage: Usage
    judgements: tuple[Judgement, ...]
    baseline: ScoreResult | None = None
    """The same scorer on the same examples with another feature's explanation."""
    empty: ScoreResult | None = None
    """The same with an explanation that says nothing."""

    @property
    def chance_normalised(self) -> float | None:
        """(s - s_b) / (1 - s_b) against ``baseline``; None without one or where 1 is no limit."""
        if self.metric in UNBOUNDED:
            return None
        return chance_normalised(self.value, self.baseline.value if self.baseline else None)

    def with_baseline(self, baseline: ScoreResult) -> ScoreResult:
        return replace(self, baseline=baseline)

    def with_judge_test(self, test: RoleTest | None) -> ScoreResult:
        """With the test of the judge that judged; None leaves it unchanged."""
        if test is None:
            return self
        return replace(self, details={**self.details, "judge_test": asdict(test.brief())})

    def with_empty(self, empty: ScoreResult) -> ScoreResult:
        return replace(self, empty=empty)

    @property
    def total_usage(self) -> Usage:
        """Of this score and of those it is held against."""
        usage = Usage()
        for part in (self, self.baseline, self.empty):
            if part is not None:
                usage.add(part.usage)
        return usage

    def as_details(self) -> dict[str, Any]:
        """JSON-able: everything that has no column of its own in the database."""
        result = {
            **self.details,
            "worst_case": self.worst_case,
            "usage": self.usage.as_dict(),
            "judgements": [judgement.as_dict() for judgement in self.judgements],
        }
        if self.baseline is not None:
            result["chance_normalised"] = self.chance_normalised
            result["baseline"] = self.baseline._as_part()
        if self.empty is not None:
            result["empty"] = self.empty._as_part()
        return result

    def _as_part(self) -> dict[str, Any]:
        """All of it, within the details of another."""
        columns = {name: getattr(self, name) for name in ("value", "low", "high", "n", "n_failed")}
        return {**columns, **self.as_details()}
