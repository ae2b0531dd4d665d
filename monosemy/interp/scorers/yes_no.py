"""Scorers that show the judge numbered texts, a few per call, and ask true or false of each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from monosemy.errors import DataError
from monosemy.interp.judging.answers import object_schema
from monosemy.interp.judging.failures import AnswerError
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.usage import Usage
from monosemy.interp.prompts.loader import load_prompt
from monosemy.interp.prompts.quoting import fence, quote
from monosemy.interp.scorers.balanced_accuracy import balanced_accuracy
from monosemy.interp.scorers.base import ScoringExamples, judgement_of
from monosemy.interp.scorers.result import Judged, Judgement, Summary
from monosemy.interp.shown import ShownExample
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.tiers import ACTIVATING
from monosemy.interp.tools import Tools
from monosemy.specs import ScoringSpec

ROUNDS = 3
"""How often a text is put to the judge before its judgement counts as failed."""


@dataclass(frozen=True)
class Item:
    """A text to be judged; ``key`` names it among those of one feature."""

    key: int
    tier: str
    example: ShownExample


class YesNoScorer:
    """Base of detection and fuzzing, which differ in prompt and in how a text is shown.

    Every call holds the same mix of tiers (as nearly as the numbers allow) in a seeded random
    order, so the judge learns nothing from the base rate or the place.  Order and grouping depend
    on ``seed`` and the examples alone: a shuffled baseline meets the same calls.
    """

    name: str
    prompt_name: str
    headline: str
    """The tier of negatives that the score is against."""
    needs_explanation = True

    def __init__(
        self, judge: Judge, texts_per_call: int = 5, seed: int = 0, radius: int = 16
    ) -> None:
        self.judge_client = judge
        self.texts_per_call = texts_per_call
        self.seed = seed
        self.radius = radius
        self.prompt = load_prompt(self.prompt_name)

    @classmethod
    def create(cls, spec: ScoringSpec, tools: Tools) -> Self:
        return cls(tools.need_judge(), spec.texts_per_call, spec.seed)

    def show(self, example: ShownExample) -> str:
        """The example as a JSON string for the prompt."""
        raise NotImplementedError

    async def judge(self, explanation: str, examples: ScoringExamples) -> Judged:
        """Raises ``EndpointError`` when the judge cannot be had, ``DataError`` without examples of
        both kinds.  Texts without a usable answer are counted, not raised."""
        items = [
            Item(key, tier, example) for key, (tier, example) in enumerate(examples.with_tiers())
        ]
        if len({item.tier == ACTIVATING for item in items}) < 2:
            raise DataError(
                f"{self.name.capitalize()} needs activating examples and others.",
                "Index more text, or leave the feature out.",
            )
        usage = Usage()
        answers: dict[int, bool] = {}
        for _ in range(ROUNDS):
            left = [item for item in items if item.key not in answers]
            calls = mixed_calls(left, self.texts_per_call, self.seed)
            rounds = await asyncio.gather(*(self._ask(explanation, call) for call in calls))
            for parsed, cost in rounds:
                answers.update(parsed)
                usage.add(cost)
        judgements = tuple(
            judgement_of(item.tier, item.example, answer=answers.get(item.key)) for item in items
        )
        return Judged(judgements, usage)

    def summarise(self, judgements: Sequence[Judgement], z: float = Z95) -> Summary:
        """Balanced accuracy against ``headline``."""
        return balanced_accuracy(judgements, self.headline, z)

    def provenance(self) -> dict[str, Any]:
        return {
            "prompt": self.prompt.provenance(),
            "judge": self.judge_client.provenance(),
            "parameters": {
                "texts_per_call": self.texts_per_call,
                "seed": self.seed,
                "radius": self.radius,
            },
        }

    def messages(self, explanation: str, quoted: Sequence[str]) -> list[dict[str, str]]:
        """The request for some quoted texts, numbered t1, t2, ...

        The texts come before the explanation: a shuffled baseline, which judges the same texts by
        another explanation, shares all that goes before it with an endpoint's prefix cache.
        """
        ids = [f"t{i}" for i in range(1, len(quoted) + 1)]
        return self.prompt.render(
            fence=fence(quoted),
            explanation=quote(explanation),
            texts="\n".join(f"{name}: {text}" for name, text in zip(ids, quoted, strict=True)),
            ids=", ".join(ids),
        )

    async def _ask(self, explanation: str, call: Sequence[Item]) -> tuple[dict[int, bool], Usage]:
        """Answers by item key; those that the judge left out or spoiled are missing."""
        keys = {f"t{i}": item.key for i, item in enumerate(call, 1)}
        schema = object_schema({name: {"type": "boolean"} for name in keys})
        messages = self.messages(explanation, [self.show(item.example) for item in call])
        try:
            answer, usage = await self.judge_client.complete_json(
                messages, schema, name="matches", partial=True
            )
        except AnswerError as error:
            return {}, error.usage
        return {keys[name]: value for name, value in answer.items()}, usage


def mixed_calls(items: Sequence[Item], size: int, seed: int) -> list[list[Item]]:
    """Cuts ``items`` into calls of at most ``size``, of nearly equal length and mix, shuffled."""
    if not items:
        return []
    rng = np.random.default_rng(seed)
    count = -(-len(items) // size)
    calls: list[list[Item]] = [[] for _ in range(count)]
    dealt = 0
    for tier in dict.fromkeys(item.tier for item in items):
        pile = [item for item in items if item.tier == tier]
        for i in rng.permutation(len(pile)):
            # Dealt like cards: no call differs from another by more than one of a kind.
            calls[dealt % count].append(pile[int(i)])
            dealt += 1
    return [[call[int(i)] for i in rng.permutation(len(call))] for call in calls]
