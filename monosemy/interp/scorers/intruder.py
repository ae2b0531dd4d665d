"""Intruder: can a judge without any explanation find the text on which the feature is silent?

A ceiling for explanations: where the activating texts have nothing to see in common, no words can
tell them from others.  The task is that of Chang et al. (Reading Tea Leaves, NeurIPS 2009) for
topics, and of delphi (``scorers/intruder``) for features.
"""

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
from monosemy.interp.scorers.base import ScoringExamples
from monosemy.interp.scorers.result import Judged, Judgement, Summary
from monosemy.interp.scorers.yes_no import ROUNDS
from monosemy.interp.shown import ShownExample
from monosemy.interp.statistics.rates import Z95, chance_normalised, rate_of
from monosemy.interp.tiers import RANDOM
from monosemy.interp.tools import Tools
from monosemy.specs import ScoringSpec

FEWEST_TEXTS = 3
"""Of two texts neither is the odd one."""


@dataclass(frozen=True)
class Trial:
    """One question.  ``place`` is where the intruder stands among ``texts``, from 0."""

    tier: str
    stratum: str | int
    """That of the activating texts, or the one they were first drawn from."""
    intruder: ShownExample
    texts: tuple[ShownExample, ...]
    place: int


class IntruderScorer:
    """One trial per negative: ``n_texts - 1`` activating texts of one stratum, and the intruder.

    A judgement stands for a trial: row, position and document are the intruder's, ``group`` is the
    stratum of the other texts, ``answer`` says whether the intruder was found (so ``truth`` is
    always true).  Guessing scores 1 / ``n_texts``.  Trials that share activating texts are not
    quite independent; these are dealt out so that each is used as rarely as the numbers allow.
    """

    name = "intruder"
    needs_explanation = False
    headline = RANDOM

    def __init__(self, judge: Judge, n_texts: int = 5, seed: int = 0, radius: int = 16) -> None:
        if n_texts < FEWEST_TEXTS:
            raise DataError(
                f"The intruder needs at least {FEWEST_TEXTS} texts to a call.",
                "Raise scoring.texts_per_call.",
            )
        self.judge_client = judge
        self.n_texts = n_texts
        self.seed = seed
        self.radius = radius
        self.prompt = load_prompt("intruder")

    @classmethod
    def create(cls, spec: ScoringSpec, tools: Tools) -> Self:
        return cls(tools.need_judge(), spec.texts_per_call, spec.seed)

    def tiers(self, asked: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys([RANDOM, *asked]))

    async def judge(self, explanation: str, examples: ScoringExamples) -> Judged:  # noqa: ARG002
        """``explanation`` is not used.

        Raises ``EndpointError`` when the judge cannot be had, ``DataError`` with fewer than
        ``n_texts - 1`` activating examples or without negatives.
        """
        trials = make_trials(examples, self.n_texts, self.seed)
        usage = Usage()
        answers: dict[int, int] = {}
        for _ in range(ROUNDS):
            left = [number for number in range(len(trials)) if number not in answers]
            replies = await asyncio.gather(*(self._ask(trials[number]) for number in left))
            for number, (place, cost) in zip(left, replies, strict=True):
                usage.add(cost)
                if place is not None:
                    answers[number] = place
        return Judged(
            tuple(_judgement(trial, answers.get(i)) for i, trial in enumerate(trials)), usage
        )

    def summarise(self, judgements: Sequence[Judgement], z: float = Z95) -> Summary:
        """The share of intruders found, Wilson's interval, their documents as clusters.

        ``details`` has ``chance``, the value on the scale where guessing is 0 and always finding it
        is 1 (with its interval), and both again for every stratum and tier.
        """
        parts = {
            tier: self._accuracy([j for j in judgements if j.tier == tier], z)
            for tier in dict.fromkeys(j.tier for j in judgements)
        }
        main = parts.get(self.headline) or self._accuracy([], z)
        mine = [j for j in judgements if j.tier == self.headline]
        strata = sorted({j.group for j in mine}, key=_strength)
        return Summary(
            metric="intruder_accuracy",
            value=main["value"],
            low=main["low"],
            high=main["high"],
            worst_case=sum(j.answer is True for j in mine) / len(mine) if mine else None,
            details={
                "chance": 1 / self.n_texts,
                "above_chance": main["above_chance"],
                "effective_n": main["effective_n"],
                "accuracy_by_group": {
                    str(group): self._accuracy([j for j in mine if j.group == group], z)
                    for group in strata
                },
                "tiers": parts,
            },
        )

    def provenance(self) -> dict[str, Any]:
        return {
            "prompt": self.prompt.provenance(),
            "judge": self.judge_client.provenance(),
            "parameters": {"texts": self.n_texts, "seed": self.seed, "radius": self.radius},
        }

    def messages(self, quoted: Sequence[str]) -> list[dict[str, str]]:
        """The request for some quoted texts, numbered t1, t2, ..."""
        ids = [f"t{i}" for i in range(1, len(quoted) + 1)]
        return self.prompt.render(
            fence=fence(quoted),
            texts="\n".join(f"{name}: {text}" for name, text in zip(ids, quoted, strict=True)),
            ids=", ".join(ids),
        )

    async def _ask(self, trial: Trial) -> tuple[int | None, Usage]:
        """The place that the judge names, from 0; None without a usable answer."""
        schema = object_schema(
            {"odd": {"type": "integer", "minimum": 1, "maximum": len(trial.texts)}}
        )
        quoted = [quote(example.cropped(self.radius).text) for example in trial.texts]
        try:
            answer, usage = await self.judge_client.complete_json(
                self.messages(quoted), schema, name="odd_one"
            )
        except AnswerError as error:
            return None, error.usage
        return int(answer["odd"]) - 1, usage

    def _accuracy(self, judgements: Sequence[Judgement], z: float) -> dict[str, Any]:
        judged = [j for j in judgements if j.answer is not None]
        rate = rate_of([bool(j.answer) for j in judged], [j.document for j in judged], z)
        chance = 1 / self.n_texts
        return {
            **rate.as_dict(),
            "above_chance": {
                "value": chance_normalised(rate.value, chance),
                "low": chance_normalised(rate.low, chance),
                "high": chance_normalised(rate.high, chance),
            },
        }


def make_trials(examples: ScoringExamples, n_texts: int, seed: int) -> list[Trial]:
    """A trial for every negative, the strata of activating examples taking turns.

    A stratum's examples are dealt in turn, reshuffled when fewer are left than a trial needs;
    a stratum too small for one trial is filled up with examples of the strata nearest to it.  The
    intruder's place is uniform.  All is deterministic by seed and examples.  ``DataError`` where
    there are too few examples.
    """
    needed = n_texts - 1
    if len(examples.activating) < needed or not any(examples.negatives.values()):
        raise DataError(
            f"A trial needs {needed} activating examples and a negative one; "
            f"there are {len(examples.activating)} activating ones.",
            "Raise scoring.positives, or lower scoring.texts_per_call.",
        )
    rng = np.random.default_rng([seed % 2**32, examples.feature])
    strata = sorted({example.group for example in examples.activating}, key=_strength)
    decks = {group: _deck(examples.activating, strata, group, needed, rng) for group in strata}
    hands: dict[str | int, list[ShownExample]] = {group: [] for group in strata}
    turns = [strata[int(i)] for i in rng.permutation(len(strata))]
    trials: list[Trial] = []
    for tier, negatives in examples.negatives.items():
        for negative in negatives:
            stratum = turns[len(trials) % len(turns)]
            if len(hands[stratum]) < needed:
                deck = decks[stratum]
                hands[stratum] = [deck[int(i)] for i in rng.permutation(len(deck))]
            texts = [hands[stratum].pop() for _ in range(needed)]
            place = int(rng.integers(n_texts))
            texts.insert(place, negative)
            trials.append(Trial(tier, stratum, negative, tuple(texts), place))
    return trials


def _deck(
    activating: Sequence[ShownExample],
    strata: Sequence[str | int],
    group: str | int,
    needed: int,
    rng: np.random.Generator,
) -> list[ShownExample]:
    """The examples of one stratum, and random ones of its neighbours if they are too few."""
    at = strata.index(group)
    deck: list[ShownExample] = []
    for other in sorted(range(len(strata)), key=lambda i: abs(i - at)):
        if len(deck) >= needed:
            break
        pile = [example for example in activating if example.group == strata[other]]
        if deck:
            pile = [pile[int(i)] for i in rng.permutation(len(pile))[: needed - len(deck)]]
        deck += pile
    return deck


def _strength(group: str | int) -> tuple[int, str]:
    """Orders strata from weak to strong: 9 before 10, names last."""
    return len(str(group)), str(group)


def _judgement(trial: Trial, place: int | None) -> Judgement:
    intruder = trial.intruder
    return Judgement(
        row=intruder.row,
        position=intruder.position,
        document=intruder.document,
        tier=trial.tier,
        group=trial.stratum,
        truth=True,
        answer=None if place is None else place == trial.place,
    )
