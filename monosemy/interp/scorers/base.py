"""What a scorer is: it judges examples by an explanation, and sums judgements up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from monosemy.interp.judging.usage import Usage
from monosemy.interp.scorers.result import Judged, Judgement, ScoreResult, Summary
from monosemy.interp.shown import ShownExample
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.tiers import ACTIVATING

if TYPE_CHECKING:
    from monosemy.interp.tools import Tools


@dataclass(frozen=True)
class ScoringExamples:
    """Examples of one feature, all from documents that no explainer saw."""

    feature: int
    activating: tuple[ShownExample, ...]
    """Their ``group`` is the stratum of activation, 0 the weakest."""
    negatives: Mapping[str, tuple[ShownExample, ...]]
    """By tier."""
    context_density: float | None = None
    """Share of all contexts of this length in which the feature fires; None where not measured."""

    def with_tiers(self) -> list[tuple[str, ShownExample]]:
        """All of them, activating ones first."""
        tiers = {ACTIVATING: self.activating, **self.negatives}
        return [(tier, example) for tier, examples in tiers.items() for example in examples]


class Scorer(Protocol):
    """What the ``implementation`` of a scorer's spec names."""

    name: str
    needs_explanation: bool
    """False for those that ask how well examples alone identify the feature: a ceiling."""

    @classmethod
    def create(cls, spec: Any, tools: Tools) -> Scorer:
        """The scorer for ``spec``, an object of the spec class that names it; ``tools`` has what
        that class says it needs."""

    def tiers(self, asked: Sequence[str]) -> tuple[str, ...]:
        """The tiers of negatives it wants, given those that the spec asks for."""

    async def judge(self, explanation: str, examples: ScoringExamples) -> Judged:
        """A judgement of every example, failed ones included.

        Raises ``EndpointError`` when the judge cannot be had at all, ``DataError`` for examples
        that it cannot work with.
        """

    def summarise(self, judgements: Sequence[Judgement], z: float = Z95) -> Summary:
        """The score over ``judgements``; ``z`` is the critical value of its interval."""

    def provenance(self) -> dict[str, Any]:
        """Prompt, judge or model, parameters: enough to ask the same again."""


def judgement_of(tier: str, example: ShownExample, **answers: Any) -> Judgement:
    """A judgement of ``example``; see ``Judgement`` for the answers."""
    return Judgement(
        row=example.row,
        position=example.position,
        document=example.document,
        tier=tier,
        group=example.group if tier == ACTIVATING else tier,
        truth=tier == ACTIVATING,
        **answers,
    )


def result_of(scorer: Scorer, judged: Judged, z: float = Z95) -> ScoreResult:
    """Judgements summed up, with all that stands behind them."""
    summary = scorer.summarise(judged.judgements, z)
    details = {**judged.details, **summary.details, **scorer.provenance()}
    whole = replace(summary, details=details)
    return listed_as(scorer.name, whole, judged.judgements, judged.usage)


def listed_as(
    scorer: str, summary: Summary, judgements: Sequence[Judgement], usage: Usage | None = None
) -> ScoreResult:
    """The score that ``summary`` is of ``judgements``, under the name ``scorer``."""
    failed = sum(judgement.failed for judgement in judgements)
    return ScoreResult(
        scorer=scorer,
        metric=summary.metric,
        value=summary.value,
        low=summary.low,
        high=summary.high,
        n=len(judgements) - failed,
        n_failed=failed,
        worst_case=summary.worst_case,
        details=summary.details,
        usage=usage or Usage(),
        judgements=tuple(judgements),
    )
