"""Endpoints that refuse: what they say is shown, learned from, and stops the run where it must."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from monosemy.interp.judging.answers import object_schema
from monosemy.interp.judging.batches import BatchLimits
from monosemy.interp.judging.endpoint import Limits
from monosemy.interp.judging.failures import (
    AnswerError,
    EndpointError,
    JudgeAway,
    KeyRefused,
    QuotaSpent,
)
from monosemy.interp.judging.judge import Judge
from monosemy.specs.parts import JudgeSpec
from tests.support.batch_stub import BatchStub
from tests.support.stub_server import Answer, Request, StubServer, error, good

SCHEMA = object_schema({"word": {"type": "string", "minLength": 2}})
KEY = "sk-very-secret-0123456789"
FAST = Limits(timeout=5.0, attempts=3, first_wait=0.01, longest_wait=3.0)
QUICK = BatchLimits(quiet=0.02, first_look=0.02, rarest_look=0.05)


def ask(
    stub: StubServer, times: int = 1, limits: Limits = FAST, **spec: Any
) -> tuple[list[Any], list[str], dict[str, Any]]:
    """(answers or errors, notices, provenance) of ``times`` questions, one after the other."""

    async def run() -> tuple[list[Any], list[str], dict[str, Any]]:
        answers: list[Any] = []
        notices: list[str] = []
        async with Judge(stub.url, KEY, "stub", JudgeSpec(**spec), limits) as judge:
            judge.report_to(notices.append)
            for number in range(times):
                messages = [{"role": "user", "content": f"Question {number}?"}]
                try:
                    answers.append((await judge.complete_json(messages, SCHEMA))[0])
                except Exception as failed:
                    answers.append(failed)
            return answers, notices, judge.provenance()

    return asyncio.run(run())


def answers(request: Request) -> Answer:
    return good(colour="blue") if "colour" in str(request["messages"]) else good(word="tree")


def refusing(*names: str, shape: Callable[[str], Any]) -> Callable[[Request], Answer]:
    """Refuses requests with any of these fields, in an error of some shape."""

    def respond(request: Request) -> Answer:
        for name in names:
            if name in request:
                body = shape(name)
                text = body if isinstance(body, str) else json.dumps(body)
                return Answer(status=400, body=text)
        return answers(request)

    return respond


SHAPES: dict[str, Callable[[str], Any]] = {
    "openai": lambda name: {
        "error": {"message": f"Unsupported parameter: '{name}'.", "param": name}
    },
    "fastapi": lambda name: {
        "detail": [{"loc": ["body", name], "msg": "Extra inputs are not permitted"}]
    },
    "text": lambda name: f"unknown field {name}",
    "error text": lambda name: {"error": f"{name} is not supported"},
    "list": lambda name: [{"error": {"message": f"Invalid value: unknown name {name}"}}],
    "errors": lambda name: {"errors": [{"message": f"{name} not allowed"}]},
    "vllm": lambda name: {"object": "error", "message": f"{name} is not supported", "code": 400},
}


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize("name", ["temperature", "max_tokens", "response_format"])
def test_what_is_refused_is_never_sent_again(name: str, shape: str) -> None:
    judge = refusing(name, shape=SHAPES[shape])
    with StubServer(respond=judge, on_probe=judge) as stub:
        answers, notices, provenance = ask(stub, times=3)
    assert answers == [{"word": "tree"}] * 3
    assert len(stub.requests) == 3, "the probe has found it out"
    assert all(name not in request for request in stub.requests)
    assert any(name in notice and "HTTP 400" in notice for notice in notices)
    if name == "max_tokens":
        assert provenance["dialect"] == {"limit": "max_completion_tokens"}
    elif name == "temperature":
        assert provenance["dialect"] == {"left_out": ["temperature"]}
    else:
        assert provenance["format"] == "text"


@pytest.mark.parametrize("status", [200, 400, 422])
def test_a_seed_is_refused_once_and_within_status_200_too(status: int) -> None:
    """Seeds are sent only where an answer is asked for again."""
    useless = iter(range(4))

    def judge(request: Request) -> Answer:
        if "seed" in request:
            body = {"error": {"message": "seed is unknown", "type": "invalid_request_error"}}
            return Answer(status=status, body=json.dumps(body))
        return Answer("nothing") if next(useless) % 2 == 0 else answers(request)

    with StubServer(respond=judge) as stub:
        answered, _, provenance = ask(stub, times=2)
    assert answered == [{"word": "tree"}] * 2
    assert ["seed" in request for request in stub.requests] == [False, True, False, False, False]
    assert provenance["dialect"] == {"left_out": ["seed"]}


def test_everything_is_refused_one_thing_at_a_time() -> None:
    names = ("temperature", "response_format", "max_tokens", "max_completion_tokens")
    judge = refusing(*names, shape=SHAPES["fastapi"])
    with StubServer(respond=judge, on_probe=judge) as stub:
        answers, _, provenance = ask(stub)
    assert answers == [{"word": "tree"}]
    assert sorted(stub.requests[0]) == ["messages", "model"]
    assert provenance["dialect"] == {"left_out": ["temperature"], "limit": None}
    with StubServer(respond=judge, on_probe=judge) as stub:
        [failed], _, _ = ask(stub, budget=1.0, price={"input": 1, "output": 1})
    assert isinstance(failed, EndpointError) and "judge.budget" in str(failed)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": [{"loc": ["body", "x"], "msg": "odd thing"}]}, "body.x: odd thing"),
        ({"error": "the odd thing"}, "the odd thing"),
        ("the odd thing", "the odd thing"),
        ([{"error": {"message": "odd thing"}}], "odd thing"),
        ({"error": f"odd thing with {KEY}"}, "odd thing with [key]"),
        ("odd thing " + "x" * 10_000, "odd thing xxx"),
        ("<html><title>odd thing</title></html>", "odd thing"),
    ],
)
@pytest.mark.parametrize("status", [400, 413, 500])
def test_the_reason_is_shown(body: Any, words: str, status: int) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    with StubServer(respond=lambda request: Answer(status=status, body=text)) as stub:
        [failed], _, _ = ask(stub)
    assert isinstance(failed, AnswerError)
    assert words in str(failed) and f"HTTP {status}" in str(failed)
    assert "very-secret" not in str(failed) and len(str(failed)) < 500


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("https://elsewhere.test/v1/chat/completions", "to https://elsewhere.test/v1/chat"),
        (f"https://me:{KEY}@elsewhere.test/v1?token={KEY}", "to https://elsewhere.test/v1,"),
        ("/other/v1", "/other/v1,"),
        ("mailto:somebody", "HTTP {status}, a redirect, which is not followed"),
        (None, "HTTP {status}, a redirect, which is not followed"),
    ],
)
def test_a_redirect_is_told_and_not_followed(status: int, location: str | None, where: str) -> None:
    headers = {} if location is None else {"Location": location}
    sent = Answer(status=status, body="moved", headers=headers)
    with StubServer(respond=lambda request: sent) as stub:
        [failed], _, _ = ask(stub)
        assert len(stub.requests) == 1
    assert isinstance(failed, EndpointError)
    message = str(failed)
    assert "which is not followed" in message and f"HTTP {status}" in message
    assert where.format(status=status) in message and KEY not in message


@pytest.mark.parametrize("code", [502, "502", "server_error", None])
def test_an_error_within_an_answer_is_told_as_that(code: Any) -> None:
    body = json.dumps({"error": {"message": "odd thing", "code": code}})
    with StubServer(respond=lambda request: Answer(body=body)) as stub:
        [failed], _, _ = ask(stub)
    assert "HTTP 200 with an error inside: odd thing" in str(failed)
    assert "HTTP 50" not in str(failed)


QUOTA = {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, QUOTA),
        (200, QUOTA),
        (402, {"error": {"message": "Insufficient credits", "code": 402}}),
        (200, {"error": {"message": "Insufficient credits", "code": 402}}),
        (400, {"error": {"type": "billing_error", "message": "Your credit balance is too low"}}),
        (429, "Insufficient Balance"),
    ],
)
def test_a_used_up_quota_stops_at_once(status: int, body: Any) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    started = time.monotonic()
    with StubServer(respond=lambda request: Answer(status=status, body=text)) as stub:
        [failed], _, _ = ask(stub, limits=Limits(attempts=5, first_wait=30))
    assert isinstance(failed, QuotaSpent) and "used up" in str(failed)
    assert len(stub.requests) == 1 and time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"message": "Slow down", "code": 429}}, JudgeAway),
        ({"error": {"message": "Slow down", "type": "rate_limit_error"}}, JudgeAway),
        ({"error": {"message": "Overloaded", "type": "overloaded_error"}}, JudgeAway),
        ({"error": "something broke"}, AnswerError),
        ({"error": {"message": "bad key", "code": 401}}, KeyRefused),
        ({"error": {"message": "The model does not exist", "code": 404}}, EndpointError),
        ({"error": {"message": "what?", "code": "400"}}, AnswerError),
        ({"choices": [{"error": {"code": 502, "message": "upstream"}, "message": {}}]}, JudgeAway),
        ({"choices": [{"finish_reason": "error", "message": {"content": "half"}}]}, AnswerError),
    ],
)
def test_an_error_within_status_200_is_that_error(body: Any, kind: type[Exception]) -> None:
    with StubServer(respond=lambda request: Answer(body=json.dumps(body))) as stub:
        [failed], _, _ = ask(stub)
    assert type(failed) is kind


def test_an_empty_error_beside_an_answer_is_none() -> None:
    full = {"choices": [{"message": {"content": '{"word": "tree"}'}}]}
    for error_ in (None, "", {}, []):
        body = json.dumps({**full, "error": error_})
        with StubServer(respond=lambda request, body=body: Answer(body=body)) as stub:
            assert ask(stub)[0] == [{"word": "tree"}]


def test_a_long_wait_is_told_of() -> None:
    limited = [error(429, "Rate limit reached", retry_after="5")]
    patient = Limits(timeout=5.0, attempts=2, first_wait=0.01, longest_wait=6.0)

    async def run(stub: StubServer) -> list[str]:
        notices: list[str] = []
        async with Judge(stub.url, KEY, "stub", JudgeSpec(), patient) as judge:
            judge.report_to(notices.append)
            messages = [{"role": "user", "content": "?"}]
            task = asyncio.create_task(judge.complete_json(messages, SCHEMA))
            while not notices:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return notices

    with StubServer(limited, respond=answers) as stub:
        [notice] = asyncio.run(asyncio.wait_for(run(stub), 30))
    assert notice == "the judge asks to wait 5 s (HTTP 429: Rate limit reached)"


def test_a_page_where_the_endpoint_should_be() -> None:
    page = Answer(body="<html><title>Welcome</title></html>")
    with StubServer(on_probe=lambda request: page) as stub:
        [failed], _, _ = ask(stub)
    assert isinstance(failed, EndpointError) and "/v1" in str(failed) and "Welcome" in str(failed)


def test_a_wrong_guess_about_the_format_is_taken_back() -> None:
    """A probe refused for another reason teaches nothing about formats."""
    mood = ["ill"]

    def judge(request: Request) -> Answer:
        return error(400, "bad mood") if mood else answers(request)

    async def run(stub: StubServer) -> str:
        async with Judge(stub.url, None, "stub", JudgeSpec(), FAST) as asked:
            with pytest.raises(AnswerError, match="bad mood"):
                await asked.answer_format()
            mood.clear()
            return await asked.answer_format()

    with StubServer(on_probe=judge) as stub:
        assert asyncio.run(run(stub)) == "json_schema"


@pytest.mark.parametrize("key", ["sk-schlüssel-123456", "sk-two\nlines-12345"])
def test_a_key_that_no_header_takes(key: str) -> None:
    with pytest.raises(EndpointError, match="key holds characters") as failed:
        Judge("http://127.0.0.1:9/v1", key, "m", JudgeSpec())
    assert key not in str(failed.value)
    Judge("http://127.0.0.1:9/v1", "sk-from-a-file\n", "m", JudgeSpec())


@pytest.mark.parametrize(
    "url", ["http://[::1/v1", "http://host:port/v1", "http:///v1", "ftp://h/v1"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(EndpointError, match="must look like http"):
        Judge(url, None, "m", JudgeSpec())


# -------------------------------------------------------------------- batches and lists
def test_lines_of_every_shape_fail_their_item_only() -> None:
    odd: list[Any] = [
        None,
        [],
        "text",
        {"status_code": "200", "body": {}},
        {"status_code": 200, "body": None},
        {"status_code": 200, "body": [1]},
        {"status_code": 200, "body": {"choices": [None]}},
        {"status_code": 200, "body": {"error": {"message": "odd", "code": 400}}},
        {"status_code": 400, "body": "odd"},
        {"status_code": 400, "body": {"detail": [{"loc": ["x"], "msg": "odd"}]}},
        {"status_code": 200, "body": {"choices": [{"message": {"content": ['{"word": "tree"}']}}]}},
    ]  # fmt: skip

    class Odd(BatchStub):
        def complete(self, batch: dict[str, Any]) -> None:
            super().complete(batch)
            lines = [line for line in self.lines if line["batch"] == batch["id"]]
            rows = []
            for line in lines:
                number = int(line["body"]["messages"][-1]["content"].split()[1].rstrip("?"))
                odd_answer = odd[number] if number < len(odd) else None
                if number >= len(odd):
                    continue
                rows.append(
                    json.dumps({"custom_id": line["custom_id"], "response": odd_answer, "error": 3})
                )
            text = "\n".join(["null", "[1]", "{broken", '{"custom_id": []}', *rows])
            batch["output_file_id"] = self.keep(text.encode())
            batch["error_file_id"], batch["request_counts"] = 7, "all"
            batch["errors"] = ["odd"]

    async def run(stub: StubServer) -> list[Any]:
        limits = Limits(attempts=2, first_wait=0.01, batch=QUICK)
        async with Judge(stub.url, None, "stub", JudgeSpec(batch=True), limits) as judge:
            questions = [[{"role": "user", "content": f"Question {i}?"}] for i in range(len(odd))]
            calls = [judge.complete_json(each, SCHEMA) for each in questions]
            return await asyncio.gather(*calls, return_exceptions=True)

    with Odd(answers, delay=0.02) as stub:
        *failed, last = asyncio.run(run(stub))
    assert last[0] == {"word": "tree"}
    assert {type(each) for each in failed} <= {AnswerError, JudgeAway}
    assert all(type(each) is AnswerError for each in failed[4:])


@pytest.mark.parametrize("broken", ["list", "file", "batch"])
def test_a_batch_api_that_answers_nonsense(broken: str) -> None:
    class Odd(BatchStub):
        def listed(self, asked: dict[str, list[str]]) -> dict[str, Any]:
            rows = [None, 3, {"id": 4}, {"id": "b", "created_at": "now", "metadata": "x"}]
            odd = {"data": rows, "has_more": "perhaps"} if "after" not in asked else {}
            return odd if broken != "list" or asked.get("limit") != ["1"] else {"data": "none"}

        def keep(self, data: bytes) -> Any:
            return super().keep(data) if broken != "file" else 12

        def create(self, body: dict[str, Any]) -> dict[str, Any]:
            return (
                {**super().create(body), "id": ["b"]} if broken == "batch" else super().create(body)
            )

    async def run(stub: StubServer) -> None:
        limits = Limits(attempts=1, batch=QUICK)
        async with Judge(stub.url, None, "stub", JudgeSpec(batch=True), limits) as judge:
            await judge.complete_json([{"role": "user", "content": "?"}], SCHEMA)

    expected = EndpointError if broken == "list" else AnswerError
    words = "no Batch API" if broken == "list" else f"a {broken} without an id"
    with Odd(answers) as stub, pytest.raises(expected, match=words):
        asyncio.run(run(stub))


@pytest.mark.parametrize(
    "models", [None, {"data": None}, {"data": [None, {"id": 3}, {}]}, {"data": {"id": "m"}}, [1]]
)
def test_a_list_of_models_that_cannot_be_read(models: Any) -> None:
    async def run(url: str) -> None:
        async with Judge(url, None, None, JudgeSpec(), Limits(attempts=1)) as judge:
            await judge.answer_format()

    async def main() -> None:
        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            data = json.dumps(models).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(reply, "127.0.0.1", 0)
        with pytest.raises(EndpointError, match="Name one"):
            await run(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        server.close()

    asyncio.run(main())
