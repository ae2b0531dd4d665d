"""The client against a real HTTP server that fails in every way that endpoints do."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from monosemy.interp.judging.answers import object_schema
from monosemy.interp.judging.endpoint import Limits
from monosemy.interp.judging.failures import AnswerError, EndpointError, JudgeAway
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.usage import Usage
from monosemy.specs.parts import JudgeSpec
from tests.support.patience import SOON
from tests.support.stub_server import Answer, Request, StubServer, error, good

SCHEMA = object_schema({"word": {"type": "string", "minLength": 2}, "yes": {"type": "boolean"}})
GOOD = good(word="tree", yes=True)
MESSAGES = [{"role": "user", "content": "Say something."}]
FAST = Limits(timeout=5.0, attempts=4, first_wait=0.01, longest_wait=3.0)
KEY = "sk-very-secret-0123456789"


def ask(
    stub: StubServer,
    spec: JudgeSpec | None = None,
    limits: Limits = FAST,
    times: int = 1,
    same: bool = False,
    **options: Any,
) -> tuple[list[Any], Judge]:
    """(answers or errors, judge) of ``times`` concurrent questions, all different or all equal."""

    async def run() -> tuple[list[Any], Judge]:
        async with Judge(stub.url, KEY, "stub", spec or JudgeSpec(), limits) as judge:
            asked = [MESSAGES if same else _numbered(number) for number in range(times)]
            calls = [judge.complete_json(messages, SCHEMA, **options) for messages in asked]
            return await asyncio.gather(*calls, return_exceptions=True), judge

    return asyncio.run(run())


def first(request: dict[str, Any]) -> bool:
    """Whether this is the first of the questions that ``ask`` asks."""
    return request["messages"][0]["content"] == _numbered(0)[0]["content"]


def _numbered(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Say something, number {number}."}]


def test_equal_questions_are_asked_once() -> None:
    with StubServer(respond=lambda request: Answer(GOOD.text, delay=0.03)) as stub:
        results, judge = ask(stub, JudgeSpec(concurrency=8), times=20, same=True)
    assert len(stub.requests) == 1
    assert [answer for answer, _ in results] == [{"word": "tree", "yes": True}] * 20
    assert sum(usage.reused for _, usage in results) == 19
    assert (judge.usage.calls, judge.usage.reused) == (2, 19)


def test_a_question_that_failed_is_asked_again_by_those_who_waited() -> None:
    bad = [error(400, "no") for _ in range(2)]
    with StubServer([*bad, GOOD]) as stub:
        results, _ = ask(stub, times=3, same=True)
    assert sum(isinstance(result, AnswerError) for result in results) == 2
    assert len(stub.requests) == 3


def test_a_good_answer_comes_with_its_cost() -> None:
    with StubServer([GOOD]) as stub:
        [(answer, usage)], judge = ask(stub, JudgeSpec(max_output_tokens=99))
    assert answer == {"word": "tree", "yes": True}
    request = stub.requests[0]
    assert request["model"] == "stub"
    assert request["max_tokens"] == 99
    assert request["temperature"] == 0
    assert request["response_format"]["json_schema"]["strict"] is True
    assert request["response_format"]["json_schema"]["schema"] == SCHEMA
    assert stub.headers[0]["authorization"] == f"Bearer {KEY}"
    # The probe is part of what the first call cost.
    assert usage.calls == 2
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (200, 20, 80)
    assert (usage.retries, usage.failures) == (0, 0)
    assert judge.usage == usage
    assert judge.provenance()["format"] == "json_schema"


def test_the_probe_is_made_once() -> None:
    with StubServer(respond=lambda request: GOOD) as stub:
        results, judge = ask(stub, JudgeSpec(concurrency=8), times=20)
    assert [answer for answer, _ in results] == [{"word": "tree", "yes": True}] * 20
    assert len(stub.probes) == 1
    assert judge.usage.calls == 21
    total = Usage()
    for _, usage in results:
        total.add(usage)
    assert total.as_dict() == judge.usage.as_dict()


def test_no_more_calls_at_once_than_allowed() -> None:
    with StubServer(respond=lambda request: Answer(GOOD.text, delay=0.03)) as stub:
        ask(stub, JudgeSpec(concurrency=3), times=12)
    assert stub.most_in_flight == 3


def test_retry_after_is_honoured_by_all_calls() -> None:
    script = [error(429, "slow down", retry_after="0.4"), *[GOOD] * 5]
    with StubServer(script) as stub:
        results, judge = ask(stub, JudgeSpec(concurrency=1), times=3)
    assert all(answer["word"] == "tree" for answer, _ in results)
    assert stub.times[1] - stub.times[0] >= 0.4
    assert judge.usage.retries == 1
    slow = Answer(GOOD.text, delay=0.1)
    with StubServer([error(429, "wait", retry_after_ms="300"), slow, *[GOOD] * 4]) as stub:
        ask(stub, JudgeSpec(concurrency=2), times=4)
    later = [moment - stub.times[0] for moment in stub.times[1:]]
    # One other call may have been under way already; nobody starts a new one before the time.
    assert sum(moment < 0.29 for moment in later) <= 1


def test_a_date_in_retry_after() -> None:
    from email.utils import formatdate

    date = formatdate(time.time() + 2, usegmt=True)
    with StubServer([error(503, "busy", retry_after=date), GOOD]) as stub:
        [(answer, _)], _ = ask(stub)
    assert answer["word"] == "tree"
    assert stub.times[1] - stub.times[0] >= 0.5


def test_an_endless_retry_after_fails_the_item_at_once() -> None:
    started = time.monotonic()
    with StubServer([error(429, "quota", retry_after="3600")]) as stub:
        [failure], judge = ask(stub)
    assert isinstance(failure, JudgeAway)
    assert "3600 s" in str(failure)
    assert failure.wait == 3600
    assert time.monotonic() - started < SOON
    assert judge.usage.calls == 1, "the probe"


@pytest.mark.parametrize(
    "trouble",
    [
        error(500),
        error(502),
        error(408),
        Answer(body="<html>gateway</html>"),
        Answer(body='{"choices": []}'),
        Answer(body='"text"'),
    ],
)
def test_passing_trouble_is_retried(trouble: Answer) -> None:
    with StubServer([trouble, trouble, GOOD]) as stub:
        [(answer, usage)], _ = ask(stub)
    assert answer["word"] == "tree"
    assert usage.retries == 2


def test_lasting_trouble_fails_the_item_only() -> None:
    with StubServer(respond=lambda request: error(500) if first(request) else GOOD) as stub:
        results, judge = ask(stub, JudgeSpec(concurrency=1), times=2)
    assert isinstance(results[0], AnswerError)
    assert results[0].usage.failures == 1
    assert results[1][0]["word"] == "tree"
    assert len(stub.requests) == 5
    assert judge.usage.failures == 1


@pytest.mark.parametrize("trouble", [error(502), error(503), error(429, retry_after="0")])
def test_a_judge_that_is_busy_or_away_is_not_the_questions_fault(trouble: Answer) -> None:
    with StubServer(respond=lambda request: trouble if first(request) else GOOD) as stub:
        results, _ = ask(stub, JudgeSpec(concurrency=1), times=2)
    assert isinstance(results[0], JudgeAway)
    assert results[1][0]["word"] == "tree"


def test_slow_answers_time_out_and_are_retried() -> None:
    slow = Answer(GOOD.text, delay=1.0)
    with StubServer([slow, GOOD]) as stub:
        [(answer, usage)], _ = ask(stub, limits=Limits(timeout=0.2, attempts=3, first_wait=0.01))
    assert answer["word"] == "tree"
    assert usage.retries == 1
    with StubServer(respond=lambda request: slow) as stub:
        [failure], _ = ask(stub, limits=Limits(timeout=0.1, attempts=2, first_wait=0.01))
    assert isinstance(failure, JudgeAway)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusing_endpoint_stops_everything_without_retries(status: int) -> None:
    with StubServer([error(status, f"Incorrect API key provided: {KEY}.")]) as stub:
        [failure], _ = ask(stub)
    assert isinstance(failure, EndpointError)
    assert len(stub.requests) == 1
    assert KEY not in str(failure)
    assert "Check the judge's address, key and model name." in str(failure)


def test_an_endpoint_that_is_not_there() -> None:
    with StubServer() as stub:
        url = stub.url

    async def run() -> None:
        async with Judge(url, None, "m", JudgeSpec(), FAST) as judge:
            await judge.complete_json(MESSAGES, SCHEMA)

    with pytest.raises(EndpointError, match="cannot be reached"):
        asyncio.run(run())
    with pytest.raises(EndpointError, match="must look like http"):
        Judge("localhost:8090", None, None, JudgeSpec())


def test_a_request_that_is_too_long_fails_the_item() -> None:
    with StubServer([error(400, "request exceeds the available context size"), GOOD]) as stub:
        results, _ = ask(stub, JudgeSpec(concurrency=1), times=2)
    assert isinstance(results[0], AnswerError)
    assert "context size" in str(results[0])
    assert results[1][0]["word"] == "tree"


def test_a_cut_off_answer_is_asked_for_again_with_more_room() -> None:
    cut = Answer('{"word": "tr', finish="length")
    with StubServer([cut, GOOD]) as stub:
        [(answer, usage)], _ = ask(stub, JudgeSpec(max_output_tokens=50))
    assert answer["word"] == "tree"
    assert [request["max_tokens"] for request in stub.requests] == [50, 100]
    assert usage.retries == 1
    with StubServer([cut, cut, GOOD]) as stub:
        [failure], _ = ask(stub)
    assert isinstance(failure, AnswerError)
    assert "cut off" in str(failure)
    assert failure.usage.completion_tokens == 30
    assert len(stub.requests) == 2


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Answer("I cannot help with that."), "no JSON object"),
        (Answer('{"word": "tree"}'), "'yes' is missing"),
        (good(word="tree", yes="yes"), "'yes' is not of type boolean"),
        (good(word="", yes=True), "'word' is too short"),
        (Answer(refusal="I must not."), "refused"),
        (Answer("", finish="content_filter"), "refused"),
        (Answer(""), "no JSON object"),
    ],
)
def test_useless_answers_are_asked_for_again_once(bad: Answer, reason: str) -> None:
    with StubServer([bad, GOOD]) as stub:
        [(answer, _)], _ = ask(stub)
    assert answer["word"] == "tree"
    assert [request["temperature"] for request in stub.requests] == [0.0, 0.7]
    assert "seed" not in stub.requests[0]
    assert stub.requests[1]["seed"] == 1
    with StubServer([bad, bad, GOOD]) as stub:
        [failure], _ = ask(stub)
    assert isinstance(failure, AnswerError)
    assert reason in str(failure)


def test_answers_that_the_caller_cannot_use() -> None:
    def accept(value: dict[str, Any]) -> str | None:
        return None if value["word"] == "tree" else "it names no tree"

    with StubServer([good(word="house", yes=True), GOOD]) as stub:
        [(answer, _)], _ = ask(stub, accept=accept)
    assert answer["word"] == "tree"
    with StubServer([good(word="house", yes=True)] * 3) as stub:
        [failure], _ = ask(stub, accept=accept, tries=3)
    assert "it names no tree" in str(failure)


def test_the_well_formed_part_of_an_answer() -> None:
    with StubServer([Answer('{"word": "tree", "yes": "perhaps"}')]) as stub:
        [(answer, usage)], _ = ask(stub, partial=True)
    assert answer == {"word": "tree"}
    assert usage.failures == 0
    with StubServer([Answer('{"word": "tree", "ye', finish="length")] * 2) as stub:
        [(answer, _)], _ = ask(stub, partial=True)
    assert answer == {"word": "tree"}
    with StubServer([Answer("nothing")] * 2) as stub:
        [failure], _ = ask(stub, partial=True)
    assert isinstance(failure, AnswerError)


# -------------------------------------------------------------------- capabilities
def _refuses(*kinds: str) -> Callable[[Request], Answer]:
    def respond(request: Request) -> Answer:
        kind = request.get("response_format", {}).get("type", "text")
        if kind in kinds:
            return error(400, f"response_format.type {kind} is not supported")
        return good(colour="blue") if "colour" in str(request["messages"]) else GOOD

    return respond


@pytest.mark.parametrize(
    ("refused", "left"),
    [(("json_schema",), "json_object"), (("json_schema", "json_object"), "text")],
)
def test_missing_formats_are_found_out_and_said(
    refused: tuple[str, ...], left: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = _refuses(*refused)
    with caplog.at_level(logging.INFO), StubServer(respond=answer, on_probe=answer) as stub:
        results, judge = ask(stub, times=3)
    assert all(value["word"] == "tree" for value, _ in results)
    assert judge.provenance()["format"] == left
    assert {
        request.get("response_format", {}).get("type", "text") for request in stub.requests
    } == {left}
    for kind in refused:
        assert f"response_format {kind} is not available" in caplog.text


def test_a_format_that_is_silently_ignored_is_not_trusted() -> None:
    prose = Answer("The sky is blue.")
    with StubServer([GOOD], on_probe=lambda request: prose) as stub:
        _, judge = ask(stub)
    assert judge.provenance()["format"] == "text"
    assert "response_format" not in stub.requests[0]


def test_schema_limits_are_dropped_before_the_schema_is() -> None:
    def respond(request: Request) -> Answer:
        schema = request["response_format"]["json_schema"]["schema"]
        if "minLength" in json.dumps(schema):
            return error(400, "Invalid schema for response_format: 'minLength' is not permitted")
        return good(colour="blue") if "colour" in schema["properties"] else GOOD

    with StubServer(respond=respond, on_probe=respond) as stub:
        [(answer, _)], judge = ask(stub)
    assert answer["word"] == "tree"
    assert judge.provenance()["format"] == "json_schema"
    assert len(stub.requests) == 1


def test_other_names_and_missing_parameters() -> None:
    def respond(request: Request) -> Answer:
        if "max_tokens" in request:
            return error(400, "Unsupported parameter: use 'max_completion_tokens' instead.")
        if "temperature" in request:
            return error(400, "Unsupported value: 'temperature' does not support 0.")
        return good(colour="blue") if "colour" in str(request["response_format"]) else GOOD

    with StubServer(respond=respond, on_probe=respond) as stub:
        [(answer, _)], _ = ask(stub)
    assert answer["word"] == "tree"
    assert len(stub.requests) == 1
    assert stub.requests[0]["max_completion_tokens"] == 160


def test_the_only_model_of_an_endpoint_is_taken() -> None:
    async def run(stub: StubServer, spec: JudgeSpec) -> str:
        async with Judge(stub.url, None, None, spec, FAST) as judge:
            await judge.complete_json(MESSAGES, SCHEMA)
            return judge.model

    with StubServer(respond=lambda request: GOOD, models=("tiny",)) as stub:
        assert asyncio.run(run(stub, JudgeSpec())) == "tiny"
    with StubServer(respond=lambda request: GOOD, models=("a", "b")) as stub:
        assert asyncio.run(run(stub, JudgeSpec(model="b"))) == "b"
        with pytest.raises(EndpointError, match="lists 2 models"):
            asyncio.run(run(stub, JudgeSpec()))


# -------------------------------------------------------------------- secrets
def test_the_key_appears_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    echo = f"bad request with Authorization Bearer {KEY} and {KEY[:12]}"
    with (
        caplog.at_level(logging.DEBUG, logger="monosemy"),
        StubServer(
            [error(400, echo), error(500, echo), error(500, echo), error(401, echo)]
        ) as stub,
    ):
        results, judge = ask(stub, JudgeSpec(concurrency=1), times=2)
    for result in results:
        assert isinstance(result, AnswerError | EndpointError)
        assert "very-secret" not in f"{result} {result!r} {result.__cause__}"
    assert "very-secret" not in caplog.text
    assert "very-secret" not in f"{judge!r} {judge.provenance()} {vars(judge)}"


def test_a_password_in_the_address_is_not_shown() -> None:
    judge = Judge("http://user:hunter2@127.0.0.1:9/v1", None, "m", JudgeSpec())
    assert judge.provenance()["address"] == "http://127.0.0.1:9/v1"
