"""One explanation on one feature's examples: all, or until the interval is narrow enough."""

from __future__ import annotations

from dataclasses import replace

from monosemy.interp.scorers.base import Scorer, ScoringExamples, result_of
from monosemy.interp.scorers.result import Judged, ScoreResult
from monosemy.interp.statistics.natural import natural_precision
from monosemy.interp.statistics.rates import Rate
from monosemy.interp.statistics.sequential import Looks
from monosemy.interp.tiers import RANDOM
from monosemy.specs import ScoringSpec


async def judged(
    scorer: Scorer, explanation: str, examples: ScoringExamples, spec: ScoringSpec
) -> ScoreResult:
    """The score; with ``spec.half_width`` examples are judged in ``spec.looks`` parts until the
    interval is at most twice that wide.

    The interval is then one that holds at every look together, so stopping when it pleases costs
    it nothing; ``details["looks"]`` says what was declared and done.  Raises what the scorer does.
    """
    if spec.half_width is None:
        result = result_of(scorer, await scorer.judge(explanation, examples))
        return with_natural_precision(result, examples)
    looks = Looks(spec.looks, spec.half_width)
    judgements = Judged(())
    for look in range(looks.count):
        judgements += await scorer.judge(explanation, part_of(examples, look, looks.count))
        result = result_of(scorer, judgements, looks.z)
        if looks.enough(result.low, result.high):
            break
    looks_taken = {
        "declared": looks.count,
        "taken": look + 1,
        "half_width": looks.half_width,
        "critical_value": looks.z,
    }
    result = replace(result, details={**result.details, "looks": looks_taken})
    return with_natural_precision(result, examples)


def with_natural_precision(result: ScoreResult, examples: ScoringExamples) -> ScoreResult:
    """Adds ``details["natural_precision"]``: of the contexts that an explanation fits, the share
    that activates, were they met as often as in the text.

    Only for scorers that judge contexts yes or no against random ones.
    """
    tiers = result.details.get("tiers", {})
    if examples.context_density is None or "tpr" not in result.details or RANDOM not in tiers:
        return result
    tpr, tnr = Rate(**result.details["tpr"]), Rate(**tiers[RANDOM]["tnr"])
    fpr = replace(
        tnr,
        value=None if tnr.value is None else 1 - tnr.value,
        low=1 - tnr.high,
        high=1 - tnr.low,
    )
    precision = natural_precision(tpr, fpr, examples.context_density)
    return replace(result, details={**result.details, "natural_precision": precision.as_dict()})


def part_of(examples: ScoringExamples, part: int, parts: int) -> ScoringExamples:
    """Every ``parts``-th example of each tier: all strata are in each part, as nearly as numbers
    allow."""
    return ScoringExamples(
        examples.feature,
        examples.activating[part::parts],
        {tier: negatives[part::parts] for tier, negatives in examples.negatives.items()},
        examples.context_density,
    )
