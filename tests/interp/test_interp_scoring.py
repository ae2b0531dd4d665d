"""Judging in steps, and what a yes is worth at the feature's own density."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from monosemy.errors import SpecError
from monosemy.interp.judging.usage import Usage
from monosemy.interp.scorers.balanced_accuracy import balanced_accuracy
from monosemy.interp.scorers.base import ScoringExamples, judgement_of
from monosemy.interp.scorers.result import Judged, Judgement, Summary
from monosemy.interp.scoring import judged, part_of
from monosemy.interp.statistics.natural import precision_at
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.statistics.sequential import critical_value
from monosemy.interp.tiers import ACTIVATING, RANDOM
from monosemy.specs import ScoringSpec, parse_spec
from tests.support.interp_examples import example


class MockScorer:
    """Right with a given chance, by a hash of seed and example."""

    name = "mock"
    needs_explanation = True

    def __init__(self, tpr: float, tnr: float, seed: int = 0) -> None:
        self.rates, self.seed = {True: tpr, False: tnr}, seed
        self.calls: list[ScoringExamples] = []

    def tiers(self, asked: Sequence[str]) -> tuple[str, ...]:
        return tuple(asked)

    async def judge(self, explanation: str, examples: ScoringExamples) -> Judged:
        self.calls.append(examples)
        judgements = []
        for tier, shown in examples.with_tiers():
            truth = tier == ACTIVATING
            right = self._chance(shown.id) < self.rates[truth]
            judgements.append(judgement_of(tier, shown, answer=truth if right else not truth))
        return Judged(tuple(judgements), Usage(calls=1))

    def summarise(self, judgements: Sequence[Judgement], z: float = Z95) -> Summary:
        return balanced_accuracy(judgements, RANDOM, z)

    def provenance(self) -> dict[str, Any]:
        return {"mock": True}

    def _chance(self, id_: Any) -> float:
        digest = hashlib.blake2b(f"{self.seed} {id_}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64


def examples(count: int, density: float | None = None) -> ScoringExamples:
    yes = tuple(example(i, f"a<< b>> {i}", i * 10 // count) for i in range(count))
    no = tuple(example(10_000 + i, f"c {i}") for i in range(count))
    return ScoringExamples(7, yes, {RANDOM: no}, density)


def test_a_clear_feature_costs_less() -> None:
    spec = ScoringSpec(positives=100, negatives=100, half_width=0.08, looks=5)
    clear, unclear = MockScorer(0.99, 0.99), MockScorer(0.6, 0.6)
    judged_result = asyncio.run(judged(clear, "", examples(100), spec))
    assert len(clear.calls) < 5 and judged_result.details["looks"]["taken"] == len(clear.calls)
    assert (judged_result.high - judged_result.low) / 2 <= 0.08
    assert judged_result.n == 40 * len(clear.calls) and judged_result.usage.calls == len(
        clear.calls
    )
    assert judged_result.details["looks"]["critical_value"] == critical_value(5)
    judged_result = asyncio.run(judged(unclear, "", examples(100), spec))
    assert judged_result.details["looks"]["taken"] == 5 and judged_result.n == 200
    plain = asyncio.run(judged(unclear, "", examples(100), ScoringSpec()))
    assert plain.value == judged_result.value, "in the end the same examples were judged"
    assert plain.high - plain.low < judged_result.high - judged_result.low, "looking costs width"


def test_every_part_has_all_strata() -> None:
    whole = examples(40)
    parts = [part_of(whole, part, 4) for part in range(4)]
    assert sorted(e.row for part in parts for e in part.activating) == list(range(40))
    assert all({e.group for e in part.activating} == set(range(10)) for part in parts)


def test_stopping_when_it_pleases_keeps_the_coverage() -> None:
    """At least 95 %, less the error of 400 simulations (binomial standard error 1.1 %)."""
    spec = ScoringSpec(positives=60, negatives=60, half_width=0.11, looks=4)
    truth, covered, taken = 0.8, [], []
    shown = examples(60)
    for seed in range(400):
        judged_result = asyncio.run(judged(MockScorer(0.85, 0.75, seed), "", shown, spec))
        covered.append(judged_result.low <= truth <= judged_result.high)
        taken.append(judged_result.details["looks"]["taken"])
    assert np.mean(covered) >= 0.95 - 2 * 0.011
    assert len(set(taken)) > 1, "some stop early, some do not"


def test_precision_at_the_features_own_density() -> None:
    scorer = MockScorer(0.8, 0.9)
    judged_result = asyncio.run(judged(scorer, "", examples(200, 0.01), ScoringSpec()))
    precision = judged_result.details["natural_precision"]
    tpr, tnr = judged_result.details["tpr"]["value"], judged_result.details["tnr"]["value"]
    assert precision["value"] == pytest.approx(precision_at(tpr, 1 - tnr, 0.01))
    assert precision["low"] < precision_at(0.8, 0.1, 0.01) < precision["high"]
    assert precision["value"] < 0.15, "ten of eleven that it fits do not activate"
    unknown = asyncio.run(judged(scorer, "", examples(20), ScoringSpec()))
    assert "natural_precision" not in unknown.details


def test_more_looks_than_examples_are_refused() -> None:
    scoring = {"positives": 3, "negatives": 9, "half_width": 0.1, "looks": 4}
    with pytest.raises(SpecError, match="4 looks need"):
        parse_spec({"kind": "score", "sae": "x", "scoring": scoring})
