"""What explainers that ask a judge share: the wanted form of its answer, and what is kept of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from monosemy.index.evidence import FeatureEvidence, TokenEffect, TokenShare
from monosemy.interp.explainers.base import (
    CONFIDENCES,
    KINDS,
    LABEL_LENGTH,
    TEXT_LENGTH,
    TRIES,
    Explanation,
    tidy,
    unusable,
)
from monosemy.interp.judging.answers import object_schema
from monosemy.interp.judging.judge import Judge
from monosemy.interp.prompts.loader import load_prompt
from monosemy.interp.prompts.quoting import quote
from monosemy.interp.shown import ShownExample

SCHEMA = object_schema(
    {
        "label": {"type": "string", "minLength": 3, "maxLength": LABEL_LENGTH},
        "explanation": {"type": "string", "minLength": 20, "maxLength": TEXT_LENGTH},
        "kind": {"type": "string", "enum": list(KINDS)},
        "confidence": {"type": "string", "enum": list(CONFIDENCES)},
        "evidence": {"type": "string", "maxLength": 100},
    },
    # A weak judge that leaves these out has still said what was asked.
    optional=("kind", "evidence"),
)


class AskingExplainer:
    """One structured answer to one prompt; ``kind`` stands where the judge names none."""

    name: str
    prompt_name: str
    wants_contrasts = False
    wants_prompts = False
    validates = False
    kind = "input"
    tries = TRIES

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.prompt = load_prompt(self.prompt_name)

    async def ask(
        self,
        evidence: FeatureEvidence,
        messages: list[dict[str, str]],
        shown: Sequence[ShownExample],
        ids: Sequence[str],
        parameters: dict[str, Any],
    ) -> Explanation:
        """``ids`` name ``shown`` as the prompt does.  Raises ``AnswerError`` when no answer is
        usable, ``EndpointError`` when none can come."""
        answer, usage = await self.judge.complete_json(
            messages,
            SCHEMA,
            name="explanation",
            accept=lambda value: unusable(value, self.prompt, shown),
            tries=self.tries,
        )
        named = re.findall(r"[a-z]\d+", answer.get("evidence", "").lower())
        kind = answer.get("kind", self.kind)
        relied_on = tuple(dict.fromkeys(id_ for id_ in named if id_ in ids))
        return Explanation(
            label=tidy(answer["label"]),
            text=tidy(answer["explanation"]),
            confidence=answer["confidence"],
            kind=kind,
            evidence_ids=relied_on,
            provenance={
                "explainer": self.name,
                "feature": evidence.feature,
                "prompt": self.prompt.provenance(),
                "judge": self.judge.provenance(),
                "parameters": parameters,
                "examples": [
                    {"id": id_, **example.reference()}
                    for id_, example in zip(ids, shown, strict=True)
                ],
                "kind": kind,
                "evidence": list(relied_on),
                "usage": usage.as_dict(),
            },
            usage=usage,
        )


def numbered(letter: str, texts: Sequence[str]) -> list[str]:
    """``e1: "..."`` and so on."""
    return [f"{letter}{number}: {text}" for number, text in enumerate(texts, 1)]


def token_list(tokens: Sequence[TokenShare] | Sequence[TokenEffect], count: int) -> str:
    """The first ``count`` distinct tokens as a JSON list, each quoted like corpus text."""
    distinct = list(dict.fromkeys(token.text.strip() for token in tokens))
    return "[" + ", ".join(quote(text) for text in distinct[:count] if text) + "]"
