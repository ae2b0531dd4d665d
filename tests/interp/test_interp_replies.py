"""Replies of every shape: an answer is read, or its item fails; nothing else ever happens."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monosemy.interp.judging.answers import object_schema
from monosemy.interp.judging.endpoint import Limits
from monosemy.interp.judging.failures import AnswerError, CallFailed, retry_after
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.ledger import MemoryLedger
from monosemy.interp.judging.prompt_logprobs import (
    logprob_of,
    read_echo,
    read_prompt_logprobs,
)
from monosemy.interp.judging.replies import (
    likeliest_of_first,
    models_of,
    parse_body,
    read_reply,
    tokens_of,
)
from monosemy.interp.scorers.simulation_logprobs import expected_value
from monosemy.specs.parts import JudgeSpec, PriceSpec
from tests.support.stub_server import Answer, StubServer, good

SCHEMA = object_schema({"word": {"type": "string"}, "yes": {"type": "boolean"}})
OBJECT = '{"word": "tree", "yes": true}'
VALUE = {"word": "tree", "yes": True}
ONCE = Limits(timeout=5.0, attempts=1, first_wait=0.01)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
NAMES = st.sampled_from(
    [
        "choices",
        "message",
        "content",
        "text",
        "type",
        "error",
        "code",
        "usage",
        "prompt_tokens",
        "completion_tokens",
        "refusal",
        "finish_reason",
        "reasoning_content",
        "reasoning",
        "tool_calls",
        "function",
        "arguments",
        "logprobs",
        "tokens",
        "top_logprobs",
        "prompt_logprobs",
        "detail",
        "loc",
        "msg",
        "data",
        "id",
        "status",
        "metadata",
        "0",
    ]
) | st.text(max_size=4)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)
ALMOST = st.fixed_dictionaries(
    {"choices": st.lists(st.fixed_dictionaries({"message": ANY_JSON}), max_size=2) | ANY_JSON},
    optional={
        "usage": ANY_JSON
        | st.fixed_dictionaries({"prompt_tokens": SCALARS, "completion_tokens": SCALARS}),
        "error": ANY_JSON,
        "prompt_logprobs": ANY_JSON,
    },
)


def body_of(message: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": message, **more}]}


# -------------------------------------------------------------------- reading
@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({"content": OBJECT}, "content"),
        ({"content": [{"type": "text", "text": OBJECT}]}, "parts of content"),
        (
            {"content": [{"type": "output_text", "text": OBJECT[:9]}, OBJECT[9:]]},
            "parts of content",
        ),
        ({"content": {"type": "text", "text": OBJECT}}, "parts of content"),
        ({"content": [{"type": "text", "text": {"value": OBJECT}}]}, "parts of content"),
        ({"content": VALUE}, "parts of content"),
        ({"content": [{"type": "image_url"}, 3, None, {"text": OBJECT}]}, "parts of content"),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": '{"word": 1}'}]},
                    {"type": "text", "text": OBJECT},
                ]
            },
            "parts of content",
        ),
        ({"content": "", "reasoning_content": OBJECT}, "reasoning_content"),
        ({"content": None, "reasoning": f"So:\n```json\n{OBJECT}\n```"}, "reasoning"),
        (
            {"content": " \n", "reasoning_details": [{"type": "reasoning.text", "text": OBJECT}]},
            "reasoning_details",
        ),
        ({"tool_calls": [{"function": {"name": "f", "arguments": OBJECT}}]}, "a tool call"),
        ({"content": None, "tool_calls": [7, {"function": {"arguments": VALUE}}]}, "a tool call"),
        ({"content": None, "function_call": {"arguments": OBJECT}}, "a tool call"),
        ({"content": None, "parsed": VALUE}, "parsed"),
    ],
)
def test_where_the_answer_may_stand(message: dict[str, Any], place: str) -> None:
    reply = read_reply(body_of(message))
    assert (reply.object(), reply.place, reply.finish) == (VALUE, place, "stop")


@pytest.mark.parametrize(
    "message",
    [
        {"content": "", "reasoning_content": f"First {OBJECT}, but no, that is wrong"},
        {"content": [{"type": "video", "text": OBJECT}]},
        {"content": 3},
        {"content": [[OBJECT]]},
        {"content": "", "tool_calls": [{"function": "f"}]},
        {"content": None, "refusal": "No."},
        {},
    ],
)
def test_what_is_no_answer(message: dict[str, Any]) -> None:
    assert read_reply(body_of(message)).object() is None


def test_a_draft_that_was_cut_off_in_another_field_is_not_taken() -> None:
    message = {"content": "", "reasoning_content": OBJECT}
    reply = read_reply(body_of(message, finish_reason="length"))
    assert reply.object() is None and reply.out_of_room


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("max_output_tokens", "length"),
        ("SAFETY", "content_filter"),
        ("content_filter", "content_filter"),
        (None, "stop"),
        (7, "stop"),
        (["length"], "stop"),
        ("eos_token", "stop"),
    ],
)
def test_finish_reasons(reason: Any, finish: str) -> None:
    assert read_reply(body_of({"content": OBJECT}, finish_reason=reason)).finish == finish


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 2}, (7, 0, 2)),
        ({"prompt_tokens": "7", "completion_tokens": 2.0}, (7, 0, 2)),
        ({"input_tokens": 7, "output_tokens": 2}, (7, 0, 2)),
        (
            {
                "prompt_tokens": 7,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 9},
            },
            (7, 7, 2),
        ),
        ({"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": [1]}, (7, 0, 2)),
        ({"prompt_tokens": 7}, None),
        ({"prompt_tokens": -7, "completion_tokens": 2}, None),
        ({"prompt_tokens": 7, "completion_tokens": float("nan")}, None),
        ({"prompt_tokens": 10**30, "completion_tokens": 2}, None),
        ({"prompt_tokens": True, "completion_tokens": 2}, None),
        ({"prompt_tokens": 7, "completion_tokens": 2.5}, None),
        ({"prompt_tokens": "seven", "completion_tokens": []}, None),
        ("12 tokens", None),
        (None, None),
        ([7, 2], None),
    ],
)
def test_token_counts(usage: Any, expected: Any) -> None:
    assert tokens_of({"usage": usage}) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[1, 2]",
        b'"text"',
        b"3",
        b"<html>",
        b'{"choices": [',
        b"\xff\xfe\x00{",
        b"[" * 9**5,
    ],
)
def test_bodies_that_are_no_object(data: bytes) -> None:
    with pytest.raises(CallFailed):
        parse_body(data)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_encodings_that_json_may_have(encoding: str) -> None:
    assert parse_body('{"a": "é"}'.encode(encoding)) == {"a": "é"}


@settings(max_examples=200, deadline=None)
@given(ANY_JSON | ALMOST)
def test_no_body_breaks_the_readers(body: Any) -> None:
    try:
        body = parse_body(json.dumps(body).encode())
    except CallFailed:
        return
    for read in (read_reply, likeliest_of_first):
        try:
            read(body)
        except CallFailed as failed:
            assert len(str(failed)) < 500 and "\n" not in str(failed)
    models_of(body)
    tokens = tokens_of(body)
    assert tokens is None or all(0 <= count <= 10**8 for count in tokens)
    for token in [*read_echo(body), *read_prompt_logprobs(body)]:
        value = expected_value(token.top)
        assert value is None or 0 <= value <= 10


@pytest.mark.parametrize(
    ("value", "expected"),
    [(-1.5, -1.5), (0, 0.0), (1e-4, 0.0), (float("-inf"), float("-inf")), (-(10**400), None)]
    + [(bad, None) for bad in ("-1", 2.0, float("nan"), float("inf"), None, True, [], {})],
)
def test_log_probabilities(value: Any, expected: float | None) -> None:
    assert logprob_of(value) == expected


@pytest.mark.parametrize(
    "logprobs",
    [
        "none",
        {"tokens": ["a"]},
        {"tokens": "ab", "top_logprobs": [{}, {}]},
        {"tokens": ["a", None], "top_logprobs": [None, {"a": -1}]},
        {"tokens": ["a", "b"], "top_logprobs": [None, [{"token": "a"}]]},
        {"tokens": ["a", "b"], "top_logprobs": None},
    ],
)
def test_echoes_of_another_shape(logprobs: Any) -> None:
    assert read_echo({"choices": [{"logprobs": logprobs}]}) == []


def test_a_place_with_an_impossible_logprob_says_nothing() -> None:
    logprobs = {"tokens": ["a", "b"], "top_logprobs": [None, {"1": -1.0, "2": "high"}]}
    assert [dict(t.top) for t in read_echo({"choices": [{"logprobs": logprobs}]})] == [{}, {}]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after": "-5"}, 0.0),
        *(({"retry-after": bad}, None) for bad in ("nan", "inf", "soon", "", "1e99", "١٢ Uhr")),
        ({"retry-after": "Mon, 99 Foo 99999999999999 99:99:99 GMT"}, None),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after(headers) == expected


# -------------------------------------------------------------------- the whole client
@pytest.fixture(scope="module")
def client() -> Iterator[tuple[StubServer, asyncio.Runner, Judge]]:
    with StubServer() as stub, asyncio.Runner() as runner:
        judge = Judge(
            stub.url, "sk-secret-0123456789", "stub", JudgeSpec(price=PriceSpec(input=1)), ONCE
        )
        runner.run(judge.answer_format())
        yield stub, runner, judge
        runner.run(judge.aclose())


def put(client: tuple[StubServer, asyncio.Runner, Judge], answer: Answer, text: str = "?") -> Any:
    """What the judge makes of one answer of the endpoint."""
    stub, runner, judge = client
    stub.respond = lambda request: answer

    async def ask() -> Any:
        messages = [{"role": "user", "content": text}]
        value, _ = await judge.complete_json(messages, SCHEMA, tries=1)
        judge.ledger._answers.clear()  # type: ignore[attr-defined]
        return value

    return runner.run(ask())


@pytest.mark.parametrize(
    "body",
    [
        "null",
        "[1, 2]",
        '"text"',
        "{}",
        "",
        '{"choices": null}',
        '{"choices": {}}',
        '{"choices": [null]}',
        '{"choices": [[]]}',
        '{"choices": [{"message": null}]}',
        '{"choices": [{"message": "hello"}]}',
        '{"choices": [{"message": {"content": ' + "9" * 5000 + "}}]}",
        '{"choices": [{"mess',
        "data: {}\n\n",
        b"\xff\xfe\xfa",
        b'{"choices": [{"message": {"content": "\xff"}}]}',
        '{"a":' * 5000 + "1" + "}" * 5000,
        '{"choices": [{"message": {"content": "' + "x" * 1_100_000 + '"}}]}',
    ],
)
def test_a_bad_body_fails_its_item_only(client: Any, body: Any) -> None:
    _, _, judge = client
    failures = judge.usage.failures
    with pytest.raises(AnswerError):
        put(client, Answer(body=body))
    assert judge.usage.failures == failures + 1
    assert put(client, good(**VALUE)) == VALUE


@settings(max_examples=80, deadline=None)
@given(ANY_JSON | ALMOST | ANY_JSON.map(body_of), st.sampled_from([200, 200, 200, 400, 422, 500]))
def test_no_reply_ends_more_than_its_item(client: Any, body: Any, status: int) -> None:
    try:
        put(client, Answer(body=json.dumps(body), status=status))
    except AnswerError as failed:
        assert len(str(failed)) < 700


def test_compression_that_is_none(client: Any) -> None:
    with pytest.raises(AnswerError, match="could not be read"):
        put(client, Answer(body=b"no gzip", headers={"content-encoding": "gzip"}))
    packed = gzip.compress(json.dumps(body_of({"content": OBJECT})).encode())
    assert put(client, Answer(body=packed, headers={"content-encoding": "gzip"})) == VALUE


def test_half_a_surrogate_pair_can_be_asked_about(client: Any) -> None:
    assert put(client, good(**VALUE), "a \ud83d b") == VALUE
    assert client[0].requests[-1]["messages"][0]["content"] == "a \ufffd b"


def test_counts_that_cannot_be_read_cost_the_most(client: Any) -> None:
    _, _, judge = client
    assert isinstance(judge.ledger, MemoryLedger)
    before = judge.ledger.cost
    usage = {"prompt_tokens": "many", "completion_tokens": None}
    assert put(client, Answer(OBJECT, usage=usage)) == VALUE
    assert judge.ledger.cost > before and judge._endpoint.token_counts is False
    before = judge.ledger.cost
    strings = {"prompt_tokens": "100", "completion_tokens": "10"}
    assert put(client, Answer(OBJECT, usage=strings)) == VALUE
    assert judge.ledger.cost - before == pytest.approx(1e-4)


@pytest.mark.parametrize(
    "answer",
    [
        {"word": ["tree"], "yes": True},
        {"word": {"a": 1}, "yes": True},
        {"word": None, "yes": True},
        {"word": "tree", "yes": "true"},
        {"word": "tree", "yes": 1},
        {"word": "tree", "yes": None},
        {"word": 3, "yes": [True]},
        {"other": 1},
    ],
)
def test_fields_of_the_wrong_type_fail_the_item(client: Any, answer: Any) -> None:
    with pytest.raises(AnswerError, match=r"is not of type|is missing"):
        put(client, good(**answer))


def test_a_property_named_twice_with_two_values_is_no_answer(client: Any) -> None:
    with pytest.raises(AnswerError, match="'yes' is missing"):
        put(client, Answer('{"word": "tree", "yes": true, "yes": false}'))
    assert put(client, Answer('{"word": "tree", "yes": true, "yes": true}')) == VALUE


def test_a_reply_that_drips_ends_at_the_time_limit() -> None:
    async def run() -> None:
        async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            try:
                while True:
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            except OSError:
                pass

        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with Judge(address, None, "m", JudgeSpec(), Limits(timeout=0.3, attempts=1)) as judge:
            with pytest.raises(Exception, match=r"no answer within 0\.3 s"):
                await asyncio.wait_for(judge.answer_format(), 20)
        server.close()

    asyncio.run(run())
