"""Detection scoring: can a judge who knows only the explanation tell which texts activate?

The measure is balanced accuracy, (TPR + TNR) / 2 (Paulo et al., arXiv 2410.13928, section 4), on
documents that the explainer never saw, with an interval and a worst case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np

from monosemy.errors import DataError
from monosemy.interp.answers import object_schema
from monosemy.interp.endpoint import AnswerError
from monosemy.interp.judge import Judge
from monosemy.interp.prompts.loader import load_prompt
from monosemy.interp.prompts.quoting import fence, quote
from monosemy.interp.shown import ShownExample
from monosemy.interp.statistics import (
    Rate,
    chance_normalised,
    newcombe_mean,
    rate_of,
    worst_case,
)
from monosemy.interp.usage import Usage

ROUNDS = 2
"""How often a text is put to the judge before its judgement counts as failed."""


@dataclass(frozen=True)
class Judgement:
    """One text, judged.  ``answer`` None: the judge gave no usable answer in ``ROUNDS`` rounds."""

    id: str
    row: int
    position: int
    document: int
    group: str | int
    truth: bool
    answer: bool | None


@dataclass(frozen=True)
class ScoreResult:
    """A score that can be taken for what it is: value, n, interval, and all behind them."""

    scorer: str
    metric: str
    value: float | None
    """None where one class has no judgement at all."""
    low: float
    high: float
    """95 % interval."""
    n: int
    """Texts judged."""
    n_failed: int
    """Texts without a usable answer: not in ``value``, counted as wrong in ``worst_case``."""
    worst_case: float | None
    details: dict[str, Any]
    usage: Usage
    judgements: tuple[Judgement, ...]
    baseline: ScoreResult | None = None
    """The same scorer on the same examples with another feature's explanation."""

    @property
    def chance_normalised(self) -> float | None:
        """(s - s_b) / (1 - s_b) against ``baseline``; None without one."""
        return chance_normalised(self.value, self.baseline.value if self.baseline else None)

    def with_baseline(self, baseline: ScoreResult) -> ScoreResult:
        return replace(self, baseline=baseline)

    def as_details(self) -> dict[str, Any]:
        """JSON-able: everything that has no column of its own in the database."""
        result = {
            **self.details,
            "worst_case": self.worst_case,
            "usage": self.usage.as_dict(),
            "judgements": [asdict(judgement) for judgement in self.judgements],
        }
        if self.baseline is not None:
            result["chance_normalised"] = self.chance_normalised
            result["baseline"] = {
                "value": self.baseline.value,
                "low": self.baseline.low,
                "high": self.baseline.high,
                "n": self.baseline.n,
                "n_failed": self.baseline.n_failed,
                **self.baseline.as_details(),
            }
        return result


class Scorer(Protocol):
    """What the registry holds."""

    name: str

    async def score(
        self,
        explanation: str,
        positives: Sequence[ShownExample],
        negatives: Sequence[ShownExample],
    ) -> ScoreResult: ...


@dataclass(frozen=True)
class _Item:
    """A text to be judged, under the number that the judge sees within its call."""

    id: str
    example: ShownExample
    truth: bool


class DetectionScorer:
    """Numbered plain texts, a few per call, true or false for each.

    Every call holds the same mix of positives and negatives (as nearly as the numbers allow) in a
    seeded random order, so the judge learns nothing from the base rate or the place.  Order and
    grouping depend on ``seed`` and the examples alone: a shuffled baseline meets the same calls.
    """

    name = "detection"

    def __init__(
        self, judge: Judge, texts_per_call: int = 5, seed: int = 0, radius: int = 16
    ) -> None:
        self.judge = judge
        self.texts_per_call = texts_per_call
        self.seed = seed
        self.radius = radius
        self.prompt = load_prompt("detection")

    async def score(
        self,
        explanation: str,
        positives: Sequence[ShownExample],
        negatives: Sequence[ShownExample],
    ) -> ScoreResult:
        """Raises ``EndpointError`` when the judge cannot be had, ``DataError`` without examples of
        both kinds.  Texts without a usable answer are counted, not raised."""
        if not positives or not negatives:
            raise DataError(
                "Detection needs activating and non-activating examples.",
                "Index more text, or leave the feature out.",
            )
        items = [
            _Item(f"p{i}", example.cropped(self.radius), True)
            for i, example in enumerate(positives)
        ] + [
            _Item(f"n{i}", example.cropped(self.radius), False)
            for i, example in enumerate(negatives)
        ]
        usage = Usage()
        answers: dict[str, bool] = {}
        for _ in range(ROUNDS):
            left = [item for item in items if item.id not in answers]
            calls = mixed_calls(left, self.texts_per_call, self.seed)
            rounds = await asyncio.gather(*(self._ask(explanation, call) for call in calls))
            for found, cost in rounds:
                answers.update(found)
                usage.add(cost)
        return self._result(items, answers, usage)

    def messages(self, explanation: str, texts: Sequence[str]) -> list[dict[str, str]]:
        """The request for some texts, numbered t1, t2, ...

        The texts come before the explanation: a shuffled baseline, which judges the same texts by
        another explanation, shares all that goes before it with an endpoint's prefix cache.
        """
        ids = [f"t{i}" for i in range(1, len(texts) + 1)]
        quoted = [quote(text) for text in texts]
        return self.prompt.render(
            fence=fence(quoted),
            explanation=quote(explanation),
            texts="\n".join(f"{name}: {text}" for name, text in zip(ids, quoted, strict=True)),
            ids=", ".join(ids),
        )

    async def _ask(self, explanation: str, call: Sequence[_Item]) -> tuple[dict[str, bool], Usage]:
        """Answers by item id; those that the judge left out or spoiled are missing."""
        ids = {f"t{i}": item.id for i, item in enumerate(call, 1)}
        schema = object_schema({name: {"type": "boolean"} for name in ids})
        messages = self.messages(explanation, [item.example.text for item in call])
        try:
            answer, usage = await self.judge.complete_json(
                messages, schema, name="matches", partial=True
            )
        except AnswerError as error:
            return {}, error.usage
        return {ids[name]: value for name, value in answer.items()}, usage

    def _result(
        self, items: Sequence[_Item], answers: dict[str, bool], usage: Usage
    ) -> ScoreResult:
        judgements = tuple(
            Judgement(
                id=item.id,
                row=item.example.row,
                position=item.example.position,
                document=item.example.document,
                group=item.example.group,
                truth=item.truth,
                answer=answers.get(item.id),
            )
            for item in items
        )
        tpr, tnr = _rate(judgements, True), _rate(judgements, False)
        low, high = newcombe_mean(tpr, tnr)
        both = tpr.value is not None and tnr.value is not None
        hits = sum(j.truth and j.answer is True for j in judgements)
        rejections = sum(not j.truth and j.answer is False for j in judgements)
        n_positive = sum(j.truth for j in judgements)
        return ScoreResult(
            scorer=self.name,
            metric="balanced_accuracy",
            value=((tpr.value or 0.0) + (tnr.value or 0.0)) / 2 if both else None,
            low=low,
            high=high,
            n=len(answers),
            n_failed=len(items) - len(answers),
            worst_case=worst_case(hits, n_positive, rejections, len(items) - n_positive),
            details={
                "confusion": {
                    "true_positives": hits,
                    "false_negatives": tpr.n - hits,
                    "true_negatives": rejections,
                    "false_positives": tnr.n - rejections,
                },
                "tpr": tpr.as_dict(),
                "tnr": tnr.as_dict(),
                "recall_by_group": recall_by_group(judgements),
                "prompt": self.prompt.provenance(),
                "judge": self.judge.provenance(),
                "parameters": {
                    "texts_per_call": self.texts_per_call,
                    "seed": self.seed,
                    "radius": self.radius,
                },
            },
            usage=usage,
            judgements=judgements,
        )


def mixed_calls(items: Sequence[_Item], size: int, seed: int) -> list[list[_Item]]:
    """Cuts ``items`` into calls of at most ``size``, of nearly equal length and mix, shuffled."""
    if not items:
        return []
    rng = np.random.default_rng(seed)
    count = -(-len(items) // size)
    calls: list[list[_Item]] = [[] for _ in range(count)]
    dealt = 0
    for truth in (True, False):
        pile = [item for item in items if item.truth is truth]
        for i in rng.permutation(len(pile)):
            # Dealt like cards: no call differs from another by more than one of either kind.
            calls[dealt % count].append(pile[int(i)])
            dealt += 1
    return [[call[int(i)] for i in rng.permutation(len(call))] for call in calls]


def recall_by_group(judgements: Sequence[Judgement]) -> dict[str, dict[str, Any]]:
    """Recall of the positives of each group (quantile of activation), with n and interval."""
    groups: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        if judgement.truth:
            groups.setdefault(str(judgement.group), []).append(judgement)
    return {group: _rate(groups[group], True).as_dict() for group in sorted(groups)}


def _rate(judgements: Sequence[Judgement], truth: bool) -> Rate:
    """Share judged right of one class, failed ones left out, documents as clusters."""
    judged = [j for j in judgements if j.truth is truth and j.answer is not None]
    return rate_of([j.answer is truth for j in judged], [j.document for j in judged])
