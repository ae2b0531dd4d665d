"""Several explainers' candidates, of which validation examples choose one.

Whoever picks the best of several by a score overrates it by that score.  So the choice is made on
documents of the validation split; what is reported later comes from the test split.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Self

from monosemy.errors import DataError, JudgeError
from monosemy.index.evidence import FeatureEvidence
from monosemy.interp.explainers.base import Explainer, ExplainingExamples, Explanation
from monosemy.interp.judging.failures import EndpointError, JudgeAway
from monosemy.interp.judging.ledger import BudgetSpent
from monosemy.interp.judging.usage import Usage
from monosemy.interp.registry import create_explainer
from monosemy.interp.scorers.base import Scorer, ScoringExamples, result_of
from monosemy.interp.scorers.detection import DetectionScorer
from monosemy.interp.scorers.result import ScoreResult
from monosemy.interp.tools import Tools
from monosemy.specs import EnsembleExplanation


class EnsembleExplainer:
    """Keeps the candidate with the best validation score; all of them stay in the provenance."""

    name = "ensemble"
    validates = True

    def __init__(self, candidates: Sequence[Explainer], scorer: Scorer) -> None:
        self.candidates, self.scorer = list(candidates), scorer
        self.wants_contrasts = any(each.wants_contrasts for each in candidates)
        self.wants_prompts = any(each.wants_prompts for each in candidates)
        self.prompt = _Prompts([getattr(each, "prompt", None) for each in candidates])

    @classmethod
    def create(cls, spec: EnsembleExplanation, tools: Tools) -> Self:
        judge = DetectionScorer(tools.need_judge(), spec.validation_examples, spec.features.seed)
        return cls([create_explainer(each, tools) for each in spec.of_candidates()], judge)

    async def explain(self, evidence: FeatureEvidence, examples: ExplainingExamples) -> Explanation:
        """Raises the first candidate's error if none has an explanation; ``DataError`` without
        validation examples."""
        validation = examples.validation
        if validation is None or not validation.activating:
            raise DataError(
                f"Feature {evidence.feature} has no validation example to choose by.",
                "Index more text, or take another explainer.",
            )
        tried = await asyncio.gather(
            *(self._candidate(each, evidence, examples) for each in self.candidates)
        )
        explanations = [each for each in tried if isinstance(each, Explanation)]
        if not explanations:
            raise next(each for each in tried if isinstance(each, Exception))
        scores = await asyncio.gather(*(self._score(each, validation) for each in explanations))
        best = max(range(len(explanations)), key=lambda i: (_value(scores[i]), -i))
        usage = Usage()
        for each, score in zip(explanations, scores, strict=True):
            usage.add(each.usage)
            usage.add(score.usage)
        chosen = explanations[best]
        candidates: list[dict[str, Any]] = [
            {
                "explainer": each.provenance["explainer"],
                "label": each.label,
                "text": each.text,
                "scorer": score.scorer,
                "value": score.value,
                "low": score.low,
                "high": score.high,
                "n": score.n,
                "n_failed": score.n_failed,
            }
            for each, score in zip(explanations, scores, strict=True)
        ]
        provenance = {
            **chosen.provenance,
            "explainer": self.name,
            "chosen": chosen.provenance["explainer"],
            "candidates": candidates,
            "failed_candidates": [str(each) for each in tried if isinstance(each, Exception)],
            "usage": usage.as_dict(),
        }
        return Explanation(
            label=chosen.label,
            text=chosen.text,
            confidence=chosen.confidence,
            provenance=provenance,
            usage=usage,
            kind=chosen.kind,
            evidence_ids=chosen.evidence_ids,
        )

    async def _candidate(
        self, explainer: Explainer, evidence: FeatureEvidence, examples: ExplainingExamples
    ) -> Explanation | Exception:
        try:
            return await explainer.explain(evidence, examples)
        except (EndpointError, JudgeAway, BudgetSpent):
            raise
        except (JudgeError, DataError) as error:
            return error

    async def _score(self, candidate: Explanation, validation: ScoringExamples) -> ScoreResult:
        return result_of(self.scorer, await self.scorer.judge(candidate.text, validation))


class _Prompts:
    """The prompts of all candidates, as provenance."""

    def __init__(self, prompts: Sequence[Any]) -> None:
        self._prompts = [prompt for prompt in prompts if prompt is not None]

    def provenance(self) -> list[Any]:
        return [prompt.provenance() for prompt in self._prompts]


def _value(score: ScoreResult) -> float:
    return score.value if score.value is not None else -1.0
