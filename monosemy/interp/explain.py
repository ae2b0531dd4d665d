"""Explainers: from evidence and examples to a label and a sentence, in a judge's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from monosemy.errors import DataError
from monosemy.index.evidence import FeatureEvidence, TokenEffect, TokenShare
from monosemy.interp.answers import object_schema
from monosemy.interp.judge import Judge
from monosemy.interp.prompts.loader import Prompt, load_prompt
from monosemy.interp.prompts.quoting import CLOSE, OPEN, fence, quote
from monosemy.interp.shown import ShownExample
from monosemy.interp.usage import Usage

LABEL_LENGTH, TEXT_LENGTH = 60, 300
"""Longest label and explanation, in characters."""
CONFIDENCES = ("low", "medium", "high")
TRIES = 3
"""Answers asked for before a feature's explanation is given up; none is ever made up."""

_SCHEMA = object_schema(
    {
        "label": {"type": "string", "minLength": 3, "maxLength": LABEL_LENGTH},
        "explanation": {"type": "string", "minLength": 20, "maxLength": TEXT_LENGTH},
        "confidence": {"type": "string", "enum": list(CONFIDENCES)},
    }
)


@dataclass(frozen=True)
class Explanation:
    """What a judge says a feature is about."""

    label: str
    """A few words."""
    text: str
    """One sentence."""
    confidence: str
    """``low``, ``medium`` or ``high``, by the judge's own account; uncalibrated."""
    provenance: dict[str, Any]
    """explainer, prompt (name, version, hash), judge, parameters, examples (row, position, group),
    usage: enough to ask the same question again."""
    usage: Usage


class Explainer(Protocol):
    """What the registry holds.  ``explain`` raises ``JudgeError`` for a feature it gives up."""

    name: str

    async def explain(
        self, evidence: FeatureEvidence, examples: Sequence[ShownExample]
    ) -> Explanation: ...


class DefaultExplainer:
    """Marked examples with the feature's top and promoted tokens; one structured answer.

    The examples are sorted strongest first and cut to ``radius`` tokens on each side.
    """

    name = "default"

    def __init__(self, judge: Judge, max_examples: int = 10, radius: int = 12) -> None:
        self.judge = judge
        self.max_examples = max_examples
        self.radius = radius
        self.prompt = load_prompt("explain_default")

    async def explain(
        self, evidence: FeatureEvidence, examples: Sequence[ShownExample]
    ) -> Explanation:
        """Raises ``AnswerError`` when no answer is usable, ``EndpointError`` when none can come,
        ``DataError`` when there are no examples to show."""
        shown = sorted(examples, key=lambda example: -example.peak)[: self.max_examples]
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
            label=_tidy(answer["label"]),
            text=_tidy(answer["explanation"]),
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


def unusable(value: dict[str, Any], prompt: Prompt, shown: Sequence[ShownExample]) -> str | None:
    """Why an answer of the right shape says nothing about the feature, or None.

    Catches what weak models do: empty words, the prompt or the schema given back, one of the texts
    given back, a loop.
    """
    label, text = _words(value["label"]), _words(value["explanation"])
    if not any(any(c.isalnum() for c in word) for word in label) or len(label) > 10:
        return "the label is not a few words"
    if len(text) < 4:
        return "the explanation is not a sentence"
    # An endpoint that holds a model to the schema ends a longer string in the middle of a word.
    if len(value["label"]) >= LABEL_LENGTH:
        return "the label was cut off"
    if len(value["explanation"]) >= TEXT_LENGTH and value["explanation"][-1] not in ".!?。":
        return "the explanation was cut off"
    for name, words in (("label", label), ("explanation", text)):
        if len(set(words)) < 0.6 * len(words):
            return f"the {name} repeats itself"
    if "{" in value["explanation"] or '":' in value["explanation"]:
        return "the explanation holds JSON"
    if any(mark in value[name] for name in ("label", "explanation") for mark in (OPEN, CLOSE)):
        return "it holds the marks of the texts"
    instructions = " ".join(" ".join(_words(part)) for _, part in prompt.sections)
    if _within(text, instructions) or " ".join(label) in instructions:
        return "it repeats the instructions"
    copied = [text, label] if len(label) > 3 else [text]  # a short label may well be a quotation
    for example in shown:
        if any(_within(words, " ".join(_words(example.text))) for words in copied):
            return "it repeats one of the texts"
    return None


def _within(words: list[str], text: str, run: int = 7) -> bool:
    """Whether ``run`` words in a row (or all, if fewer) stand in ``text`` in just that order."""
    length = min(run, len(words))
    padded = f" {text} "
    return any(
        f" {' '.join(words[i : i + length])} " in padded for i in range(len(words) - length + 1)
    )


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def _tidy(text: str) -> str:
    return " ".join(text.split())


def _tokens(tokens: Sequence[TokenShare] | Sequence[TokenEffect], count: int) -> str:
    """The first ``count`` distinct tokens as a JSON list, each quoted like corpus text."""
    distinct = list(dict.fromkeys(token.text.strip() for token in tokens))
    return "[" + ", ".join(quote(text) for text in distinct[:count] if text) + "]"
