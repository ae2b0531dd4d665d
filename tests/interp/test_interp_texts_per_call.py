"""Many texts in one call: cheaper, and the fixture judge decides the same about every one.

That judge errs by the text alone, so what would differ is ours: a text that is lost, asked about
under another's name, marked otherwise or answered for another.  Whether a model judges as well with
more texts before it is a property of the model, which no fixture tells.
"""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest

from monosemy.interp.judging.judge import Judge
from monosemy.interp.scorers.base import ScoringExamples, result_of
from monosemy.interp.scorers.detection import DetectionScorer
from monosemy.interp.scorers.fuzzing import FuzzingScorer
from monosemy.interp.scorers.result import ScoreResult
from monosemy.interp.tiers import MIS_MARKED, RANDOM
from monosemy.specs import JudgeSpec
from tests.support.interp_examples import example, scoring_examples
from tests.support.stub_server import Answer, Request, StubServer, good, texts_asked

SCORERS = {RANDOM: DetectionScorer, MIS_MARKED: FuzzingScorer}
EXPLANATION = "The word river, most of all in old letters."


def examples(tier: str) -> ScoringExamples:
    """50 right and 50 wrong ones; for fuzzing the same contexts, with other words marked."""
    right, wrong = [], []
    for i in range(50):
        text = f"Letter {i} tells of the<< river>> and of the year {i % 7}."
        right.append(example(i, text, i % 10))
        text = f"Letter {i + 50} tells of the town and of the<< year>> {i % 9}."
        if tier == MIS_MARKED:
            text = f"Letter {i} tells of the river and of the<< year>> {i % 7}."
        wrong.append(example(1000 + i, text, tier))
    return scoring_examples(right, wrong, tier)


def fixture_judge(request: Request) -> Answer:
    """Finds the word, marked where there are marks; errs about every fifth text."""
    answers = {}
    for name, text in texts_asked(request).items():
        errs = hashlib.blake2b(text.encode(), digest_size=1).digest()[0] < 51
        word = "<<river>>" if "<<" in text else "river"
        answers[name] = (word in text) != errs
    return good(**answers)


def judged(tier: str, per_call: int) -> tuple[ScoreResult, dict[str, bool | None], int]:
    """(result, decision by example, characters sent)."""

    async def run(url: str) -> tuple[ScoreResult, dict[str, bool | None]]:
        async with Judge(url, None, "stub", JudgeSpec(concurrency=4)) as judge:
            scorer = SCORERS[tier](judge, texts_per_call=per_call)
            judged = await scorer.judge(EXPLANATION, examples(tier))
            decisions = {item.id: item.answer for item in judged.judgements}
            return result_of(scorer, judged), decisions

    with StubServer(respond=fixture_judge) as stub:
        result, decisions = asyncio.run(run(stub.url))
        sent = sum(len(json.dumps(request["messages"])) for request in stub.requests)
        assert len(stub.requests) == -(-100 // per_call)
    return result, decisions, sent


@pytest.mark.parametrize("tier", sorted(SCORERS))
def test_no_agreement_is_lost_and_tokens_are_saved(tier: str) -> None:
    single, decisions, most = judged(tier, 1)
    assert len(decisions) == 100 and 0.6 < single.value < 0.95, "it errs, but not always"
    for per_call, share in ((5, 0.5), (10, 0.4), (25, 0.35)):
        result, same, sent = judged(tier, per_call)
        assert same == decisions
        assert (result.value, result.low, result.high) == (single.value, single.low, single.high)
        assert sent < share * most
