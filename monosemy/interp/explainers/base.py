"""What an explainer is, and which of a judge's answers are no explanation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from monosemy.index.evidence import FeatureEvidence
from monosemy.interp.judge_test.result import RoleTest
from monosemy.interp.judging.usage import Usage
from monosemy.interp.prompts.loader import Prompt
from monosemy.interp.prompts.quoting import CLOSE, OPEN
from monosemy.interp.scorers.base import ScoringExamples
from monosemy.interp.shown import ShownExample

LABEL_LENGTH, TEXT_LENGTH = 60, 300
"""Longest label and explanation, in characters."""
CONFIDENCES = ("low", "medium", "high")
KINDS = ("input", "output", "both")
TRIES = 5
"""Answers asked for before a feature's explanation is given up; none is ever made up."""


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
    kind: str = "input"
    """``input`` if it is about the text on which the feature fires, ``output`` if about what it
    makes the model write, or ``both``; ``input`` also where the judge does not say."""
    evidence_ids: tuple[str, ...] = ()
    """The texts on which the judge says it relies; their places are in the provenance."""

    def with_judge_test(self, test: RoleTest | None) -> Explanation:
        """With the test of the judge that wrote it; unchanged without one."""
        if test is None or not self.provenance.get("judge"):
            return self
        return replace(self, provenance={**self.provenance, "judge_test": asdict(test.brief())})


@dataclass(frozen=True)
class ExplainingExamples:
    """What an explainer may see of a feature, all from documents that never score it."""

    activating: tuple[ShownExample, ...]
    contrasts: tuple[ShownExample, ...] = ()
    """Close negatives, for explainers that want them."""
    validation: ScoringExamples | None = None
    """Examples of the validation split, for explainers that choose among candidates."""
    prompts: tuple[tuple[int, ...], ...] = ()
    """Beginnings of any texts as token ids, the same for all features, for explainers that have the
    host model write on."""


class Explainer(Protocol):
    """What the ``implementation`` of an explainer's spec names.  ``explain`` raises ``JudgeError``
    for a feature it gives up; ``create`` (spec, tools) makes one, as for scorers."""

    name: str
    wants_contrasts: bool
    validates: bool
    """Chooses among candidates on validation examples."""
    wants_prompts: bool
    """Has the host model write on."""

    async def explain(
        self, evidence: FeatureEvidence, examples: ExplainingExamples
    ) -> Explanation: ...


def unusable(value: dict[str, Any], prompt: Prompt, shown: Sequence[ShownExample]) -> str | None:
    """Why an answer of the right shape says nothing about the feature, or None.

    Catches what weak models do: empty words, the prompt or the schema given back, one of the texts
    given back, a loop.
    """
    label, text = words_of(value["label"]), words_of(value["explanation"])
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
    instructions = " ".join(" ".join(words_of(part)) for _, part in prompt.sections)
    if _within(text, instructions) or " ".join(label) in instructions:
        return "it repeats the instructions"
    copied = [text, label] if len(label) > 3 else [text]  # a short label may well be a quotation
    for example in shown:
        if any(_within(words, " ".join(words_of(example.text))) for words in copied):
            return "it repeats one of the texts"
    return None


def _within(words: list[str], text: str, run: int = 7) -> bool:
    """Whether ``run`` words in a row (or all, if fewer) stand in ``text`` in just that order."""
    length = min(run, len(words))
    padded = f" {text} "
    return any(
        f" {' '.join(words[i : i + length])} " in padded for i in range(len(words) - length + 1)
    )


def words_of(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def tidy(text: str) -> str:
    return " ".join(text.split())
