"""The contrastive explainer: what the activating texts have and close silent ones lack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from monosemy.index.evidence import FeatureEvidence
from monosemy.interp.explainers.asking import AskingExplainer, numbered
from monosemy.interp.explainers.base import ExplainingExamples, Explanation
from monosemy.interp.explainers.default import strongest
from monosemy.interp.judging.judge import Judge
from monosemy.interp.prompts.quoting import fence
from monosemy.interp.shown import ShownExample
from monosemy.interp.tools import Tools
from monosemy.specs import ExplanationSpec


class ContrastiveExplainer(AskingExplainer):
    """Marked examples beside texts with the same token, or of similar features, in which the
    feature is silent."""

    name = "contrastive"
    prompt_name = "explain_contrastive"
    wants_contrasts = True

    def __init__(
        self, judge: Judge, max_examples: int = 10, max_contrasts: int = 5, radius: int = 12
    ) -> None:
        super().__init__(judge)
        self.max_examples, self.max_contrasts = max_examples, max_contrasts
        self.radius = radius

    @classmethod
    def create(cls, spec: ExplanationSpec, tools: Tools) -> Self:
        return cls(tools.need_judge(), spec.examples, spec.contrasts)

    async def explain(self, evidence: FeatureEvidence, examples: ExplainingExamples) -> Explanation:
        """As the default explainer; without any contrast it has only the examples to go by."""
        shown = strongest(examples.activating, self.max_examples, self.radius, evidence.feature)
        against = [each.cropped(self.radius) for each in examples.contrasts[: self.max_contrasts]]
        ids = [f"e{number}" for number in range(1, len(shown) + 1)]
        ids += [f"n{number}" for number in range(1, len(against) + 1)]
        return await self.ask(
            evidence,
            self.messages(shown, against),
            [*shown, *against],
            ids,
            {
                "max_examples": self.max_examples,
                "max_contrasts": self.max_contrasts,
                "radius": self.radius,
            },
        )

    def messages(
        self, shown: Sequence[ShownExample], against: Sequence[ShownExample]
    ) -> list[dict[str, str]]:
        texts, others = [e.quoted_marked() for e in shown], [e.quoted() for e in against]
        return self.prompt.render(
            fence=fence([*texts, *others]),
            examples="\n".join(numbered("e", texts)),
            contrasts="\n".join(numbered("n", others)),
        )
