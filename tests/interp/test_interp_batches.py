"""Questions through the Batch API: the same answers, at half the price, none paid for twice."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import Any

import pytest

from monosemy.interp.judging.answers import object_schema
from monosemy.interp.judging.batches import BatchLimits
from monosemy.interp.judging.endpoint import Limits
from monosemy.interp.judging.failures import AnswerError, EndpointError
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.ledger import BudgetSpent, MemoryLedger
from monosemy.interp.scorers.base import result_of
from monosemy.interp.scorers.detection import DetectionScorer
from monosemy.specs import JudgeSpec, PriceSpec, ScoringSpec
from monosemy.specs.parts import BATCH_FEATURES
from tests.support.batch_stub import BatchStub
from tests.support.interp_examples import CITIES, OTHERS, negatives, positives, scoring_examples
from tests.support.stub_server import Answer, Request, StubServer, asked_about, good, texts_asked

QUICK = BatchLimits(quiet=0.05, first_look=0.05, rarest_look=0.1)
SCHEMA = object_schema({"number": {"type": "integer"}})


def judge_of(stub: StubServer, batch: BatchLimits = QUICK, **spec: Any) -> Judge:
    limits = Limits(attempts=3, first_wait=0.01, batch=batch)
    return Judge(stub.url, None, "stub", JudgeSpec(batch=True, **spec), limits)


def question(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"What is {number} + 1?"}]


def adds(request: Request) -> Answer:
    return good(number=int(request["messages"][-1]["content"].split()[2]) + 1)


async def asked(judge: Judge, *numbers: int) -> list[int]:
    answers = await asyncio.gather(
        *(judge.complete_json(question(number), SCHEMA) for number in numbers)
    )
    return [value["number"] for value, _ in answers]


def test_one_batch_answers_everybody_his_own_question(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="monosemy.interp.judging.batches")

    async def run(stub: StubServer) -> tuple[list[int], Judge]:
        async with judge_of(stub) as judge:
            answers = await asked(judge, *range(200))
            assert judge.in_batches == 0
            return answers, judge

    with BatchStub(adds) as stub:
        answered, judge = asyncio.run(run(stub))
    assert answered == list(range(1, 201))
    assert len(stub.batches) == 1 and len(stub.lines) == 200
    logged = [record.getMessage() for record in caplog.records]
    assert logged[0].startswith("batch batch_0: 200 questions wait at http://127.0.0.1")
    assert logged[1:] == ["batch batch_0: 200 of 200 done"]
    assert stub.requests == [] and len(stub.probes) == 1, "only the probe is asked live"
    assert judge.usage.calls == 202 and judge.usage.prompt_tokens == 201 * 100
    line = stub.lines[0]
    assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
    assert line["body"]["model"] == "stub" and line["body"]["max_tokens"] == 160
    assert line["body"]["response_format"]["type"] == "json_schema"


def test_batches_are_cut_at_the_endpoints_limits() -> None:
    async def run(stub: StubServer, limits: BatchLimits) -> list[int]:
        async with judge_of(stub, limits) as judge:
            return await asked(judge, *range(25))

    for limits in (
        BatchLimits(quiet=0.05, first_look=0.05, requests=10),
        BatchLimits(quiet=0.05, first_look=0.05, size=5000),
    ):
        with BatchStub(adds) as stub:
            assert asyncio.run(run(stub, limits)) == list(range(1, 26))
        sizes = [sum(line["batch"] == name for line in stub.lines) for name in stub.batches]
        assert sum(sizes) == 25 and len(sizes) >= 3 and max(sizes) <= 10
        assert all(len(data) <= 5000 or limits.requests == 10 for data in stub.files.values())


def test_lines_that_fail_are_asked_again() -> None:
    """Expired, away, malformed, left out: each is retried as a live call would be."""
    faults: dict[int, Any] = {3: "expired", 5: 500, 7: "missing", 9: 429}

    def fault(request: Request, before: int) -> Any:
        number = int(request["messages"][-1]["content"].split()[2])
        return faults.get(number) if before < 12 else None

    def respond(request: Request) -> Answer:
        first = request["temperature"] == 0
        number = int(request["messages"][-1]["content"].split()[2])
        return Answer("Well, I think") if number == 1 and first else adds(request)

    async def run(stub: StubServer) -> tuple[list[int], Judge]:
        async with judge_of(stub) as judge:
            return await asked(judge, *range(12)), judge

    with BatchStub(respond, fault=fault) as stub:
        answers, judge = asyncio.run(run(stub))
    assert answers == list(range(1, 13))
    assert len(stub.lines) == 12 + 5 and judge.usage.retries == 5


def test_what_is_refused_is_no_answer() -> None:
    async def run(stub: StubServer) -> list[Any]:
        async with judge_of(stub) as judge:
            return await asyncio.gather(
                *(judge.complete_json(question(number), SCHEMA) for number in range(3)),
                return_exceptions=True,
            )

    def fault(request: Request, before: int) -> Any:
        return 413 if "What is 1 " in request["messages"][-1]["content"] else None

    with BatchStub(adds, fault=fault) as stub:
        answers = asyncio.run(run(stub))
    assert answers[0][0] == {"number": 1} and answers[2][0] == {"number": 3}
    assert isinstance(answers[1], AnswerError)


def test_what_a_dead_process_asked_is_not_asked_again() -> None:
    """The endpoint's own list tells; nothing has to be kept here."""

    async def dies(stub: StubServer) -> None:
        async with judge_of(stub) as judge:
            await asyncio.wait_for(asked(judge, *range(20)), 0.5)

    async def lives(stub: StubServer) -> list[int]:
        async with judge_of(stub) as judge:
            return await asked(judge, *range(10, 30))

    with BatchStub(adds, delay=1.0) as stub:
        with pytest.raises(TimeoutError):
            asyncio.run(dies(stub))
        assert len(stub.lines) == 20
        assert asyncio.run(lives(stub)) == list(range(11, 31))
        assert len(stub.lines) == 30, "ten were under way already"
        # An answer is taken over once; whoever asks a third time asks anew only what is new.
        assert asyncio.run(lives(stub)) == list(range(11, 31))
        assert len(stub.lines) == 30
    bodies = [json.dumps(line["body"]) for line in stub.lines]
    assert len(set(bodies)) == 30


@pytest.mark.parametrize("trouble", ["withheld", "pages"])
def test_a_list_that_is_hard_to_read_costs_no_second_answer(trouble: str) -> None:
    """A download that fails is tried again before anything is sent; older pages are read too."""

    async def dies(stub: StubServer) -> None:
        async with judge_of(stub) as judge:
            await asyncio.wait_for(asked(judge, *range(20)), 0.5)

    async def lives(stub: StubServer) -> list[int]:
        async with judge_of(stub) as judge:
            return await asked(judge, *range(20))

    with BatchStub(adds, delay=1.0) as stub:
        with pytest.raises(TimeoutError):
            asyncio.run(dies(stub))
        if trouble == "withheld":
            stub.withheld = 1
        else:
            stub.page = 2
            empty = {"input_file_id": stub.keep(b""), "completion_window": "24h"}
            for _ in range(5):  # of somebody else
                stub.create({**empty, "endpoint": "/v1/chat/completions"})
        assert asyncio.run(lives(stub)) == list(range(1, 21))
        assert len(stub.lines) == 20 and not stub.withheld


def test_what_a_batch_never_came_to_costs_nothing() -> None:
    """Cost is that of the server's answers: 100 + 10 tokens each."""
    price = PriceSpec(input=2.0, output=2.0)

    def fault(request: Request, before: int) -> Any:
        return {2: "expired", 4: "missing"}.get(before)

    async def run(stub: StubServer) -> float:
        async with judge_of(stub, price=price) as judge:
            await asked(judge, *range(6))
            assert isinstance(judge.ledger, MemoryLedger)
            return judge.ledger.cost

    with BatchStub(adds, fault=fault) as stub:
        cost = asyncio.run(run(stub))
        answered = sum(line["status"] == 200 for line in stub.lines if "status" in line)
    assert (len(stub.lines), answered) == (8, 6)
    assert cost == pytest.approx((answered + len(stub.probes)) * 110 * 1e-6)


def test_work_that_is_given_up_withdraws_its_batches() -> None:
    async def run(stub: StubServer) -> None:
        async with judge_of(stub) as judge:
            task = asyncio.create_task(asked(judge, *range(5)))
            await asyncio.sleep(0.4)
            await judge.withdraw()
            assert [batch["status"] for batch in stub.batches.values()] == ["in_progress"]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await judge.withdraw()

    with BatchStub(adds, delay=30.0) as stub:
        asyncio.run(run(stub))
        assert [batch["status"] for batch in stub.batches.values()] == ["cancelled"]


def test_an_endpoint_without_batches_says_so_at_once() -> None:
    async def run(stub: StubServer) -> None:
        async with judge_of(stub) as judge:
            await asked(judge, 1)

    with BatchStub(adds, offers=False) as stub:
        with pytest.raises(EndpointError, match=r"no Batch API .status 404"):
            asyncio.run(run(stub))
        assert stub.lines == stub.requests == []


def test_half_the_price_and_the_same_budget() -> None:
    price = PriceSpec(input=2.0, output=8.0)

    async def spent(stub: StubServer, batch: bool) -> float:
        spec = JudgeSpec(batch=batch, price=price)
        limits = Limits(batch=QUICK)
        async with Judge(stub.url, None, "stub", spec, limits) as judge:
            await judge.complete_json(question(0), SCHEMA)  # the probe is paid in full
            assert isinstance(judge.ledger, MemoryLedger)
            before = judge.ledger.cost
            await asked(judge, *range(1, 11))
            return judge.ledger.cost - before

    with BatchStub(adds) as stub:
        live = asyncio.run(spent(stub, False))
        assert asyncio.run(spent(stub, True)) == pytest.approx(live / 2)
    assert PriceSpec(input=1, cached=0.4, output=2, batch=0.25).of_batches() == PriceSpec(
        input=0.25, cached=0.1, output=0.5, batch=1.0
    )

    async def poor(stub: StubServer) -> None:
        async with judge_of(stub, price=price, budget=0.0005) as judge:
            await asked(judge, *range(50))

    with BatchStub(adds) as stub, pytest.raises(BudgetSpent):
        asyncio.run(poor(stub))


def test_a_score_is_the_same_as_live() -> None:
    def respond(request: Request) -> Answer:
        claim = asked_about(request)
        texts = texts_asked(request)
        return good(**{k: zlib.crc32((claim + v).encode()) % 3 > 0 for k, v in texts.items()})

    examples = scoring_examples(positives(len(CITIES)), negatives(len(OTHERS)))

    async def score(stub: StubServer, batch: bool) -> Any:
        spec = JudgeSpec(batch=batch)
        async with Judge(stub.url, None, "stub", spec, Limits(batch=QUICK)) as judge:
            scorer = DetectionScorer(judge, texts_per_call=3)
            return result_of(scorer, await scorer.judge("Cities.", examples))

    with BatchStub(respond) as stub:
        live, batched = (asyncio.run(score(stub, each)) for each in (False, True))
    assert (live.value, live.details) == (batched.value, batched.details)
    assert len(stub.batches) == 1


def test_features_gather_for_a_batch() -> None:
    assert JudgeSpec(concurrency=3).features_at_once == 3
    assert JudgeSpec(concurrency=3, batch=True).features_at_once == BATCH_FEATURES
    with pytest.raises(ValueError, match="leave batch out"):
        ScoringSpec(scorer="surprisal", judge=JudgeSpec(batch=True))
