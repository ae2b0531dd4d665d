"""The default explainer: marked examples, in a judge's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from monosemy.errors import DataError
from monosemy.index.evidence import FeatureEvidence
from monosemy.interp.explainers.asking import AskingExplainer, numbered, token_list
from monosemy.interp.explainers.base import ExplainingExamples, Explanation
from monosemy.interp.judging.judge import Judge
from monosemy.interp.prompts.quoting import fence
from monosemy.interp.shown import ShownExample
from monosemy.interp.tools import Tools
from monosemy.specs import ExplanationSpec


class DefaultExplainer(AskingExplainer):
    """Marked examples with the feature's top and promoted tokens; one structured answer.

    The examples are sorted strongest first and cut to ``radius`` tokens on each side.
    """

    name = "default"
    prompt_name = "explain_default"

    def __init__(self, judge: Judge, max_examples: int = 10, radius: int = 12) -> None:
        super().__init__(judge)
        self.max_examples = max_examples
        self.radius = radius

    @classmethod
    def create(cls, spec: ExplanationSpec, tools: Tools) -> Self:
        return cls(tools.need_judge(), spec.examples)

    async def explain(self, evidence: FeatureEvidence, examples: ExplainingExamples) -> Explanation:
        """Raises ``AnswerError`` when no answer is usable, ``EndpointError`` when none can come,
        ``DataError`` when there are no examples to show."""
        shown = strongest(examples.activating, self.max_examples, self.radius, evidence.feature)
        return await self.ask(
            evidence,
            self.messages(evidence, shown),
            shown,
            [f"e{number}" for number in range(1, len(shown) + 1)],
            {"max_examples": self.max_examples, "radius": self.radius},
        )

    def messages(
        self, evidence: FeatureEvidence, shown: Sequence[ShownExample]
    ) -> list[dict[str, str]]:
        """The request, which can be read before it is sent."""
        texts = [example.quoted_marked() for example in shown]
        return self.prompt.render(
            fence=fence(texts),
            examples="\n".join(numbered("e", texts)),
            top_tokens=token_list(evidence.top_tokens, 8),
            promoted=token_list(evidence.promoted, 8),
        )


def strongest(
    examples: Sequence[ShownExample], count: int, radius: int, feature: int
) -> list[ShownExample]:
    """The ``count`` strongest, cut; ``DataError`` where none activates."""
    shown = sorted(examples, key=lambda example: -example.peak)[:count]
    shown = [example.cropped(radius) for example in shown]
    if not any(example.peak > 0 for example in shown):
        raise DataError(
            f"Feature {feature} fires nowhere in the documents that explanations are made from.",
            "Half of the documents, by hash, are for explaining: index more of them, leave it out, "
            "or take output_centric, which needs no examples.",
        )
    return shown
