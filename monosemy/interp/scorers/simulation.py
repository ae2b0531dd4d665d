"""Simulation: how well does an explanation predict the activation at every token?

S. Bills et al., "Language models can explain neurons in language models" (OpenAI 2023): a judge who
knows only the explanation predicts a strength from 0 to 10 at each token; the score is Pearson's
correlation with the real activations over all tokens.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from monosemy.errors import DataError
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.usage import Usage
from monosemy.interp.prompts.loader import load_prompt
from monosemy.interp.scorers.base import ScoringExamples, judgement_of
from monosemy.interp.scorers.result import Judged, Judgement, Summary
from monosemy.interp.scorers.simulation_json import JsonSimulator
from monosemy.interp.scorers.simulation_logprobs import LogprobSimulator
from monosemy.interp.scorers.simulation_score import simulation_score
from monosemy.interp.shown import ShownExample
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.tiers import ACTIVATING, RANDOM
from monosemy.interp.tools import Tools
from monosemy.specs import ScoringSpec

log = logging.getLogger(__name__)


class _Prompts:
    """Both prompts: which one serves is known only once the endpoint was asked."""

    def provenance(self) -> dict[str, Any]:
        return {name: load_prompt(name).provenance() for name in ("simulate", "simulate_json")}


class SimulationScorer:
    """Activating contexts and random ones, simulated token by token.

    By prompt logprobs where the endpoint has them and its tokenizer takes the lines, else in JSON;
    ``provenance()["simulation"]`` says which.  Contexts are cut to ``radius`` tokens on each side.
    """

    name = "simulation"
    needs_explanation = True

    def __init__(
        self, judge: Judge, texts_per_call: int = 5, seed: int = 0, radius: int = 16
    ) -> None:
        self.judge_client = judge
        self.texts_per_call = texts_per_call
        self.seed = seed
        self.radius = radius
        self.prompt = _Prompts()
        self._simulator: LogprobSimulator | JsonSimulator | None = None
        self._reason: str | None = None
        self._choosing = asyncio.Lock()

    @classmethod
    def create(cls, spec: ScoringSpec, tools: Tools) -> Self:
        return cls(tools.need_judge(), spec.texts_per_call, spec.seed)

    def tiers(self, asked: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002
        """Random ones alone: a correlation over close negatives too would be another measure."""
        return (RANDOM,)

    async def judge(self, explanation: str, examples: ScoringExamples) -> Judged:
        """Raises ``EndpointError`` when the judge cannot be had, ``DataError`` without examples of
        both kinds.  Contexts without a usable answer are counted, not raised."""
        items = [(tier, example.cropped(self.radius)) for tier, example in examples.with_tiers()]
        if len({tier == ACTIVATING for tier, _ in items}) < 2:
            raise DataError(
                "Simulation needs activating examples and others.",
                "Index more text, or leave the feature out.",
            )
        usage = Usage()
        simulator = await self._choose(usage)
        # Shuffled, so that the order of contexts in a call carries no information.
        order = np.random.default_rng(self.seed).permutation(len(items)).tolist()
        cropped = [visible(example) for _, example in items]
        simulations, cost = await simulator.simulate(explanation, [cropped[i][0] for i in order])
        usage.add(cost)
        simulated = dict(zip(order, simulations, strict=True))
        judgements = []
        for i, (tier, example) in enumerate(items):
            answer = simulated[i]
            rounded = None if answer is None else tuple(round(value, 3) for value in answer)
            judgements.append(judgement_of(tier, example, real=cropped[i][1], simulated=rounded))
        return Judged(tuple(judgements), usage)

    def summarise(self, judgements: Sequence[Judgement], z: float = Z95) -> Summary:
        """Pearson over all tokens, with an interval by resampling documents."""
        return simulation_score(judgements, self.seed, z)

    def provenance(self) -> dict[str, Any]:
        simulator = self._simulator
        return {
            "simulation": simulator.form if simulator else None,
            "simulation_reason": self._reason,
            "prompt": (simulator or self).prompt.provenance(),
            "judge": self.judge_client.provenance(),
            "parameters": {
                "seed": self.seed,
                "radius": self.radius,
                **(simulator.provenance() if simulator else {}),
            },
        }

    async def _choose(self, usage: Usage) -> LogprobSimulator | JsonSimulator:
        """The form that the endpoint can do; found out once."""
        async with self._choosing:
            if self._simulator is None:
                by_logprobs = LogprobSimulator(self.judge_client)
                self._reason, cost = await by_logprobs.prepare()
                usage.add(cost)
                if self._reason is None:
                    self._simulator = by_logprobs
                else:
                    self._simulator = JsonSimulator(self.judge_client, self.texts_per_call)
                    log.warning("simulation in JSON, not by prompt logprobs: %s", self._reason)
        return self._simulator


def visible(example: ShownExample) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Pieces and levels without the empty pieces: a character's later tokens, whose level the first
    one already has."""
    kept = [
        (piece, round(level, 3))
        for piece, level in zip(example.pieces, example.levels, strict=True)
        if piece
    ]
    return tuple(piece for piece, _ in kept), tuple(level for _, level in kept)
