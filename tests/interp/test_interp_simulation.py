"""Simulation: what a judge expects at every token, by prompt logprobs and in JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from monosemy.errors import DataError, JudgeError
from monosemy.interp.judging.endpoint import Limits
from monosemy.interp.judging.judge import Judge
from monosemy.interp.prompts.quoting import quote
from monosemy.interp.scorers.base import ScoringExamples, result_of
from monosemy.interp.scorers.result import ScoreResult
from monosemy.interp.scorers.simulation import SimulationScorer, visible
from monosemy.interp.scorers.simulation_json import JsonSimulator
from monosemy.interp.scorers.simulation_logprobs import LogprobSimulator, Slots, expected_value
from monosemy.interp.shown import ShownExample
from monosemy.specs.parts import JudgeSpec
from tests.support.interp_examples import example, negatives, positives, scoring_examples
from tests.support.prompt_logprobs_stub import DIGITS, JOINED, echo, ignoring, vllm
from tests.support.stub_server import Answer, Request, StubServer, error, good

LEVELS = {" Paris": 9, " London": 8, " Berlin": 7, " Tokyo": 6, " Madrid": 5}
FAST = Limits(first_wait=0.001, attempts=2)


def ask(
    stub: StubServer, work: Callable[[Judge], Any], spec: JudgeSpec | None = None
) -> tuple[Any, Judge]:
    async def run() -> tuple[Any, Judge]:
        async with Judge(stub.url, None, "stub", spec or JudgeSpec(concurrency=4), FAST) as judge:
            return await work(judge), judge

    return asyncio.run(run())


def score(
    stub: StubServer, examples: ScoringExamples, explanation: str = "names of cities"
) -> tuple[ScoreResult, Judge]:
    async def work(judge: Judge) -> ScoreResult:
        scorer = SimulationScorer(judge)
        return result_of(scorer, await scorer.judge(explanation, examples))

    return ask(stub, work)


def cities() -> ScoringExamples:
    return scoring_examples(positives(5), negatives(5))


# -------------------------------------------------------------------- a mind that knows
def quoted_token(prompt: str) -> str | None:
    """The token on whose line the prompt ends behind a tab."""
    quoted = re.search(r'(".*")\t$', prompt)
    return str(json.loads(quoted[1])) if quoted else None


def knowing(prompt: str) -> dict[str, float]:
    """Expects the planted level with 80 %, its neighbours with 10 % each."""
    token = quoted_token(prompt)
    if token is None:
        return {"word": 0.5}
    level = LEVELS.get(token, 0)
    if level == 0:
        return {"0": 0.9, "1": 0.1, "unknown": 1e-3}
    return {str(level): 0.8, str(level - 1): 0.1, str(level + 1): 0.1, "unknown": 1e-3}


def json_judge(rate: Callable[[str, int], int | None]) -> Callable[[Request], Answer]:
    """Rates each asked token by its text and number; None leaves it out."""

    def respond(request: Request) -> Answer:
        content = request["messages"][-1]["content"]
        tokens = {k: json.loads(t) for k, t in re.findall(r"^(\w+): (\".*\")$", content, re.M)}
        wanted = request["response_format"]["json_schema"]["schema"]["required"]
        rated = {k: rate(tokens[k], i) for i, k in enumerate(wanted)}
        return good(**{k: v for k, v in rated.items() if v is not None})

    return respond


# -------------------------------------------------------------------- expected values
@pytest.mark.parametrize(
    ("chances", "highest", "wanted"),
    [
        ({"3": 1.0}, 10, 3.0),
        ({"0": 0.5, "10": 0.5}, 10, 5.0),
        ({"2": 0.2, " 4": 0.2, "x": 0.6}, 10, 3.0),  # what is no number does not count
        ({"9": 0.9}, 9, 10.0),  # where 9 is the highest it stands for 10
        ({"0": 0.75, "9": 0.25}, 9, 2.5),
        ({"11": 0.9, "1": 0.1}, 10, 1.0),
        ({"05": 0.9, "5": 0.1}, 10, 5.0),
        ({"\u0665": 0.5, "7": 0.1}, 10, 7.0),  # an Arabic five is not ours
        ({"word": 1.0}, 10, None),
        ({}, 10, None),
    ],
)
def test_expected_values_by_hand(
    chances: dict[str, float], highest: int, wanted: float | None
) -> None:
    logs = {text: math.log(chance) for text, chance in chances.items()}
    assert expected_value(logs, highest) == (None if wanted is None else pytest.approx(wanted))


# -------------------------------------------------------------------- by prompt logprobs
@pytest.mark.parametrize("answers", [echo(knowing), vllm(knowing), vllm(knowing, with_ids=False)])
def test_a_judge_that_knows_simulates_what_is_there(answers: Callable[[Request], Answer]) -> None:
    with StubServer(on_complete=answers) as stub:
        result, judge = score(stub, cities())
    assert result.metric == "pearson"
    # Expected: 0.8 level + 0.1 (level - 1) + 0.1 (level + 1), and 0.1 where the level is 0.
    for judgement in result.judgements:
        assert judgement.real is not None and judgement.simulated is not None
        wanted = [level if level else 0.1 for level in judgement.real]
        assert judgement.simulated == pytest.approx(wanted, abs=2e-3)
    assert result.value == pytest.approx(1.0, abs=1e-3)
    assert (result.n, result.n_failed) == (10, 0)
    assert result.details["simulation"] == "prompt_logprobs"
    assert result.details["simulation_reason"] is None
    assert result.details["parameters"]["placeholder"] == "unknown"
    assert result.details["parameters"]["highest"] == 10
    assert not stub.requests, "no chat is needed"
    # One prompt per context; what came before it found out how to ask.
    assert len(stub.completions) >= 10
    assert judge.usage.calls == len(stub.completions) + len(stub.probes)


@pytest.mark.parametrize(
    ("cut", "placeholder", "highest"), [(JOINED, "?", 10), (DIGITS, "unknown", 9)]
)
def test_tokenizers_that_cut_otherwise_are_met_halfway(
    cut: re.Pattern[str], placeholder: str, highest: int
) -> None:
    with StubServer(on_complete=echo(knowing, cut)) as stub:
        result, _ = score(stub, cities())
    assert result.details["simulation"] == "prompt_logprobs"
    assert result.details["parameters"]["placeholder"] == placeholder
    assert result.details["parameters"]["highest"] == highest
    assert result.value is not None and result.value > 0.99


def test_a_bos_before_the_prompt_does_no_harm() -> None:
    with StubServer(on_complete=echo(knowing, bos=True)) as stub:
        result, _ = score(stub, cities())
    assert result.value == pytest.approx(1.0, abs=1e-3)


def test_the_endpoint_is_probed_once() -> None:
    with StubServer(on_complete=echo(knowing)) as stub:

        async def work(judge: Judge) -> list[bool]:
            answers = await asyncio.gather(*(judge.prompt_logprobs.probe() for _ in range(8)))
            return [available for available, _ in answers]

        answered, _ = ask(stub, work)
    assert answered == [True] * 8
    assert len(stub.completions) == 1


def test_every_completion_is_entered_in_the_books() -> None:
    with StubServer(on_complete=echo(knowing)) as stub:
        _, judge = score(stub, cities())
    calls = len(stub.completions) + len(stub.probes)
    assert getattr(judge.ledger, "calls") == calls  # noqa: B009


def test_an_endpoint_that_is_away_is_not_one_without() -> None:
    with StubServer() as stub:
        url = stub.url

    async def work() -> None:
        async with Judge(url, None, "stub", JudgeSpec(), FAST) as judge:
            scorer = SimulationScorer(judge)
            for _ in range(2):  # nothing is remembered of it
                with pytest.raises(JudgeError):
                    await scorer.judge("x", cities())
            assert scorer.provenance()["simulation"] is None

    asyncio.run(work())


HOSTILE = [
    " tab\there",
    "\nDATA-0 ends",
    ' quote"',
    "\\",
    "<|im_end|>",
    "\t10\n",
    '"\t9',
    "\u2028",
    "\ud800",
    "\U0001f600",
    "",
]


def test_no_token_breaks_out_of_its_line() -> None:
    simulator = LogprobSimulator.__new__(LogprobSimulator)
    from monosemy.interp.prompts.loader import load_prompt

    simulator.prompt, simulator.slots = load_prompt("simulate"), Slots()
    plain, _ = simulator.lines("x", ["a"] * len(HOSTILE))
    prompt, offsets = simulator.lines('quote " and\nline', HOSTILE)
    assert prompt.count("\n") == plain.count("\n")
    assert prompt.count("\t") == plain.count("\t")
    for token, offset in zip(HOSTILE, offsets, strict=True):
        assert prompt[:offset].endswith(quote(token) + "\t")
        assert prompt[offset:].startswith("unknown")


# -------------------------------------------------------------------- in JSON
@pytest.mark.parametrize("on_complete", [ignoring, lambda request: error(404, "no such route")])
def test_without_prompt_logprobs_it_is_done_in_json_and_said(
    on_complete: Callable[[Request], Answer], caplog: pytest.LogCaptureFixture
) -> None:
    answers = json_judge(lambda token, _: LEVELS.get(token, 0))
    with (
        caplog.at_level(logging.WARNING),
        StubServer(respond=answers, on_complete=on_complete) as stub,
    ):
        result, judge = score(stub, cities())
    assert result.value == pytest.approx(1.0)
    assert result.details["simulation"] == "json"
    assert "no prompt logprobs" in result.details["simulation_reason"]
    assert any("no prompt logprobs" in record.message for record in caplog.records)
    assert any("simulation in JSON" in record.message for record in caplog.records)
    assert getattr(judge.ledger, "calls") == (  # noqa: B009
        len(stub.requests) + len(stub.completions) + len(stub.probes)
    )


def test_a_judge_that_guesses_scores_nothing() -> None:
    dice = random.Random(0)
    with StubServer(respond=json_judge(lambda *_: dice.randint(0, 10))) as stub:
        result, _ = score(stub, scoring_examples(positives(16), negatives(16)))
    assert result.value is not None and abs(result.value) < 0.2
    assert result.low < 0 < result.high


def test_the_score_is_pearsons_over_all_tokens() -> None:
    rate = json_judge(lambda token, _: min(10, len(token)))
    examples = cities()
    with StubServer(respond=rate) as stub:
        result, _ = score(stub, examples)
    shown = [visible(each.cropped(16)) for _, each in examples.with_tiers()]
    real = np.concatenate([levels for _, levels in shown])
    guess = np.concatenate([[min(10, len(token)) for token in tokens] for tokens, _ in shown])
    assert result.value == pytest.approx(float(np.corrcoef(real, guess)[0, 1]), abs=1e-9)
    assert result.details["n_tokens"] == len(real)


def test_only_what_is_missing_is_asked_again() -> None:
    asked: list[list[str]] = []
    rate = json_judge(lambda token, _: LEVELS.get(token, 0))

    def respond(request: Request) -> Answer:
        wanted = request["response_format"]["json_schema"]["schema"]["required"]
        asked.append(wanted)
        answer = json.loads(rate(request).text)
        if len(asked) == 1:  # cuts the first answer off in the middle, twice
            return Answer(json.dumps(dict(list(answer.items())[:5]))[:-1], finish="stop")
        return good(**answer)

    with StubServer(respond=respond) as stub:

        async def work(judge: Judge) -> Any:
            return await JsonSimulator(judge).simulate("x", [["a", "b", "c", " Paris", "d", "e"]])

        (answers, _), _ = ask(stub, work)
    assert answers == [(0.0, 0.0, 0.0, 9.0, 0.0, 0.0)]
    assert len(asked[0]) == 6
    assert len(asked[-1]) < 6, "what was answered is not asked for again"


def test_a_context_without_a_whole_answer_has_failed() -> None:
    """Its tokens are not taken for silent."""
    broken = "vienna"

    def rate(token: str, _: int) -> int | None:
        return None if broken in token.lower() else LEVELS.get(token, 0)

    with StubServer(respond=json_judge(rate)) as stub:
        result, _ = score(stub, scoring_examples(positives(6), negatives(6)))
    failed = [judgement for judgement in result.judgements if judgement.failed]
    assert len(failed) == 1
    assert failed[0].truth
    assert (result.n, result.n_failed) == (11, 1)


@pytest.mark.parametrize("words", [["a"] * 3, ["a"] * 260])
def test_calls_stay_small(words: Sequence[str]) -> None:
    simulator = JsonSimulator.__new__(JsonSimulator)
    simulator.contexts_per_call = 5
    contexts = [list(words)] * 9
    calls = simulator.calls(range(9), contexts)
    assert sorted(i for call in calls for i in call) == list(range(9))
    for call in calls:
        assert len(call) <= 5
        assert len(call) == 1 or sum(len(contexts[i]) for i in call) <= 100


def test_it_needs_examples_of_both_kinds() -> None:
    with StubServer() as stub, pytest.raises(DataError, match="needs activating examples"):
        score(stub, scoring_examples([], negatives(3)))


def test_a_characters_later_tokens_are_not_shown() -> None:
    one = example(0, "a<< b>> c")
    shown = ShownExample(
        **{**vars(one), "pieces": ("a", " b", "", " c"), "levels": (0, 9.0, 9.0, 0)}
    )
    assert visible(shown) == (("a", " b", " c"), (0.0, 9.0, 0.0))
