"""Explainers: from evidence and examples to a label and a sentence, in a judge's words."""

from __future__ import annotations

from collections.abc import Sequence

from monosemy.errors import DataError
from monosemy.index.evidence import FeatureEvidence, TokenEffect, TokenShare
from monosemy.interp.explainers.base import (
    CONFIDENCES,
    LABEL_LENGTH,
    TEXT_LENGTH,
    TRIES,
    ExplainingExamples,
    Explanation,
    tidy,
    unusable,
)
from monosemy.interp.judging.answers import object_schema
from monosemy.interp.judging.judge import Judge
from monosemy.interp.prompts.loader import load_prompt
from monosemy.interp.prompts.quoting import fence, quote
from monosemy.interp.shown import ShownExample

_SCHEMA = object_schema(
    {
        "label": {"type": "string", "minLength": 3, "maxLength": LABEL_LENGTH},
        "explanation": {"type": "string", "minLength": 20, "maxLength": TEXT_LENGTH},
        "confidence": {"type": "string", "enum": list(CONFIDENCES)},
    }
)


class DefaultExplainer:
    """Marked examples with the feature's top and promoted tokens; one structured answer.

    The examples are sorted strongest first and cut to ``radius`` tokens on each side.
    """

    name = "default"
    wants_contrasts = False
    validates = False

    def __init__(self, judge: Judge, max_examples: int = 10, radius: int = 12) -> None:
        self.judge = judge
        self.max_examples = max_examples
        self.radius = radius
        self.prompt = load_prompt("explain_default")

    async def explain(self, evidence: FeatureEvidence, examples: ExplainingExamples) -> Explanation:
        """Raises ``AnswerError`` when no answer is usable, ``EndpointError`` when none can come,
        ``DataError`` when there are no examples to show."""
        shown = sorted(examples.activating, key=lambda example: -example.peak)[: self.max_examples]
        shown = [example.cropped(self.radius) for example in shown]
        if not any(example.peak > 0 for example in shown):
            raise DataError(
                f"Feature {evidence.feature} has no example to explain it from.",
                "Index more text, or leave the feature out.",
            )
        answer, usage = await self.judge.complete_json(
            self.messages(evidence, shown),
            _SCHEMA,
            name="explanation",
            accept=lambda value: unusable(value, self.prompt, shown),
            tries=TRIES,
        )
        return Explanation(
            label=tidy(answer["label"]),
            text=tidy(answer["explanation"]),
            confidence=answer["confidence"],
            provenance={
                "explainer": self.name,
                "feature": evidence.feature,
                "prompt": self.prompt.provenance(),
                "judge": self.judge.provenance(),
                "parameters": {"max_examples": self.max_examples, "radius": self.radius},
                "examples": [example.reference() for example in shown],
                "usage": usage.as_dict(),
            },
            usage=usage,
        )

    def messages(
        self, evidence: FeatureEvidence, shown: Sequence[ShownExample]
    ) -> list[dict[str, str]]:
        """The request, for whoever wants to see it before it is sent."""
        texts = [example.quoted_marked() for example in shown]
        return self.prompt.render(
            fence=fence(texts),
            examples="\n".join(texts),
            top_tokens=_tokens(evidence.top_tokens, 8),
            promoted=_tokens(evidence.promoted, 8),
        )


def _tokens(tokens: Sequence[TokenShare] | Sequence[TokenEffect], count: int) -> str:
    """The first ``count`` distinct tokens as a JSON list, each quoted like corpus text."""
    distinct = list(dict.fromkeys(token.text.strip() for token in tokens))
    return "[" + ", ".join(quote(text) for text in distinct[:count] if text) + "]"
