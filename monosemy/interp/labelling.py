"""Explaining and scoring many features: concurrency, and what is done when one fails.

Results are handed over one by one as they arrive, so that the caller can store each at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from monosemy.errors import DataError, JudgeError
from monosemy.interp.explainers.base import Explainer, Explanation
from monosemy.interp.judging.failures import EndpointError
from monosemy.interp.judging.ledger import BudgetSpent, about
from monosemy.interp.judging.usage import Usage
from monosemy.interp.scorers.base import Scorer
from monosemy.interp.scorers.result import ScoreResult
from monosemy.interp.scoring import judged
from monosemy.interp.shuffled_baseline import EMPTY_EXPLANATION, shuffled_partner
from monosemy.interp.texts import FeatureTexts
from monosemy.progress import Reporter
from monosemy.specs import SCORERS, ExplanationSpec, ScoringSpec
from monosemy.workspace import fingerprint

_REASONS_LISTED = 3
"""At most so many reasons are listed in an error."""


@dataclass
class Tally:
    """What a batch of features came to."""

    done: int = 0
    skipped: int = 0
    """Done before, by an earlier attempt or run."""
    failures: dict[int, str] = field(default_factory=dict)
    """Feature to reason."""
    usage: Usage = field(default_factory=Usage)

    def as_dict(self) -> dict[str, Any]:
        return {
            "done": self.done,
            "skipped": self.skipped,
            "failed": len(self.failures),
            "failures": {str(feature): reason for feature, reason in self.failures.items()},
            "usage": self.usage.as_dict(),
        }


def explanation_key(spec: ExplanationSpec, explainer: Explainer, text_id: str, judge: str) -> str:
    """Equal for equal work: explainer, prompt, examples, text, judge."""
    work = {
        "explainer": spec.explainer,
        "prompt": _prompt_of(explainer),
        "options": spec.options("judge", "features"),
        "seed": spec.features.seed,
        "text": text_id,
        "judge": [judge, spec.judge.temperature, spec.judge.max_output_tokens],
    }
    return fingerprint(work | _plugin_of(spec))


def score_key(spec: ScoringSpec, scorer: Scorer, text_id: str, judge: str, among: str = "") -> str:
    """Equal for equal work: scorer, prompt, examples, text, judge.

    ``among`` names the explanations that an explanation is told from, where the scorer does that.
    """
    sampling = spec.options("judge")
    if spec.scorer != SCORERS.default:
        sampling["scorer"] = spec.scorer
    options = [judge, spec.judge.temperature, spec.judge.max_output_tokens]
    work = {"prompt": _prompt_of(scorer), "sampling": sampling, "text": text_id, "judge": options}
    return fingerprint(work | ({"among": among} if among else {}) | _plugin_of(spec))


def _plugin_of(spec: ExplanationSpec | ScoringSpec) -> dict[str, Any]:
    """Names the plugins that take part, with their versions; empty of monosemy's own."""
    plugins = spec.plugins()
    return {"plugins": plugins} if plugins else {}


def _prompt_of(thing: Any) -> Any:
    prompt = getattr(thing, "prompt", None)
    return prompt.provenance() if prompt is not None else None


async def explain_one(
    texts: FeatureTexts, feature: int, spec: ExplanationSpec, explainer: Explainer
) -> Explanation:
    """One feature's explanation; raises ``JudgeError`` or ``DataError`` if there is none."""
    texts.require(feature)
    with about(explainer.name, feature):
        examples = texts.to_explain(feature, spec, explainer)
        explanation = await explainer.explain(texts.reader.evidence(feature), examples)
    return replace(explanation, provenance=explanation.provenance | _plugin_of(spec))


async def score_one(
    texts: FeatureTexts,
    feature: int,
    spec: ScoringSpec,
    scorer: Scorer,
    explanation: str,
    borrowed: str | None,
) -> ScoreResult:
    """One explanation's score, beside that of ``borrowed`` and, where the spec asks for it, of an
    empty one on the same examples.

    Raises ``JudgeError`` or ``DataError`` if there is none.
    """
    texts.require(feature)
    if scorer.needs_explanation and not explanation.strip():
        raise DataError("Its explanation says nothing.")
    with about(scorer.name, feature):
        examples = texts.to_score(feature, spec, scorer.tiers(spec.tiers))
        result = await judged(scorer, explanation, examples, spec)
        if borrowed is not None and scorer.needs_explanation:
            baseline = await judged(scorer, borrowed, examples, spec)
            result = result.with_baseline(baseline)
        if spec.empty_baseline and scorer.needs_explanation:
            result = result.with_empty(await judged(scorer, EMPTY_EXPLANATION, examples, spec))
    return replace(result, details=result.details | _plugin_of(spec))


async def explain_features(
    texts: FeatureTexts,
    features: Sequence[int],
    spec: ExplanationSpec,
    explainer: Explainer,
    store_one: Callable[[int, Explanation], None],
    reporter: Reporter,
    skipped: int = 0,
) -> Tally:
    """Explains each feature; a feature without a usable answer is listed, not invented.

    Raises ``JudgeError`` when the endpoint cannot be used, or when every feature failed.
    """
    tally = Tally(skipped=skipped)

    async def one(feature: int) -> None:
        explanation = await explain_one(texts, feature, spec, explainer)
        tally.usage.add(explanation.usage)
        store_one(feature, explanation)

    await _for_each(features, one, spec.judge.features_at_once, tally, "explain", reporter)
    return tally


async def score_explanations(
    texts: FeatureTexts,
    explanations: Mapping[int, str],
    wanted: Sequence[int],
    spec: ScoringSpec,
    scorer: Scorer,
    store_one: Callable[[int, ScoreResult], None],
    reporter: Reporter,
) -> Tally:
    """Scores the explanations of ``wanted`` features, each beside another feature's explanation.

    ``explanations`` holds those of all explained features: the shuffled baseline borrows from them.
    """
    tally = Tally(skipped=len(explanations) - len(wanted))
    partner: dict[int, int] = {}
    if not scorer.needs_explanation:
        pass
    elif spec.shuffled_baseline and len(explanations) > 1:
        partner = shuffled_partner(list(explanations), spec.seed)
    elif spec.shuffled_baseline:
        reporter.log(
            "one explained feature only: no other explanation to borrow for the shuffled baseline"
        )

    async def one(feature: int) -> None:
        borrowed = explanations[partner[feature]] if feature in partner else None
        result = await score_one(texts, feature, spec, scorer, explanations[feature], borrowed)
        tally.usage.add(result.total_usage)
        store_one(feature, result)

    await _for_each(wanted, one, spec.judge.features_at_once, tally, "score", reporter)
    return tally


async def _for_each(
    features: Sequence[int],
    work: Callable[[int], Awaitable[None]],
    concurrency: int,
    tally: Tally,
    name: str,
    reporter: Reporter,
) -> None:
    """Runs ``work`` over features, a few at a time; stops them all when one has to stop."""
    with reporter.stage(name, len(features), "features") as stage:
        queue = iter(features)

        async def worker() -> None:
            for feature in queue:
                reporter.check()
                try:
                    await work(feature)
                    tally.done += 1
                except (EndpointError, BudgetSpent):
                    raise
                except (JudgeError, DataError) as error:
                    tally.failures[feature] = str(error)
                    usage = getattr(error, "usage", None)
                    if usage is not None:
                        tally.usage.add(usage)
                    reporter.log(f"feature {feature}: {error}")
                stage.advance(1, failed=len(tally.failures))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, len(features))):
                    group.create_task(worker())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
    if features and not tally.done and not tally.skipped:
        raise JudgeError(none_done(tally.failures, len(features)))


def none_done(reasons: Mapping[Any, str], total: int) -> str:
    """Says that none of ``total`` features could be done, with the first reasons by feature."""
    listed = [f"{feature}: {reason}" for feature, reason in list(reasons.items())[:_REASONS_LISTED]]
    more = f" (and {total - len(listed)} more)" if total > len(listed) else ""
    return f"None of {total} features could be done. {' '.join(listed)}{more}"
