"""What a model thinks aloud is never taken for its answer, and costs it no answer either."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monosemy.interp.judging.answers import find_final_object, find_object, object_schema
from monosemy.interp.judging.endpoint import Limits
from monosemy.interp.judging.failures import AnswerError
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.reasoning import without_reasoning
from monosemy.specs.parts import JudgeSpec
from tests.support.stub_server import Answer, Request, StubServer, error, good

SCHEMA = object_schema({"word": {"type": "string"}})
DRAFT, FINAL = '{"word": "draft"}', '{"word": "final"}'
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Well?"}]


@pytest.mark.parametrize(
    "text",
    [
        f"<think>Perhaps {DRAFT}?</think>{FINAL}",
        f"<think>\n{DRAFT}\n</think>\n\n```json\n{FINAL}\n```",
        f"<thinking>{DRAFT}</thinking> {FINAL} Done.",
        f"<THINK>{DRAFT}</THINK>{FINAL}",
        f"[THINK]{DRAFT}[/THINK]{FINAL}",
        f"◁think▷{DRAFT}◁/think▷{FINAL}",
        f"Okay, maybe {DRAFT} or so</think>{FINAL}",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{FINAL}",
        f"<|channel|>analysis<|message|>{DRAFT}"
        f"<|channel|>final <|constrain|>json<|message|>{FINAL}<|return|>",
        f"<|channel>thought\n{DRAFT}<channel|>{FINAL}",
        f"<seed:think>{DRAFT}</seed:think>{FINAL}",
        f"<|START_THINKING|>{DRAFT}<|END_THINKING|><|START_RESPONSE|>{FINAL}<|END_RESPONSE|>",
        f"<think>{DRAFT}</think>{DRAFT}<think>no</think>{FINAL}",
        f"I must write {DRAFT}. So: {FINAL}",
    ],
)
def test_the_final_object_alone_counts(text: str) -> None:
    spoken = without_reasoning(text)
    assert find_object(spoken.text) == {"word": "final"} and not spoken.unfinished


@pytest.mark.parametrize("mark", ["<think>", "<thinking>", "[THINK]", "<|channel|>analysis"])
def test_a_draft_within_unclosed_reasoning_is_none(mark: str) -> None:
    spoken = without_reasoning(f"{mark} It may be {DRAFT}")
    assert find_object(spoken.text) is None and spoken.unfinished and spoken.thought


@pytest.mark.parametrize("mark", ["<think>", "</think>", "[/THINK]", "<|channel|>final", "{", '"}'])
def test_marks_within_the_answer_belong_to_it(mark: str) -> None:
    answer = json.dumps({"word": f"the token {mark} in logs", "n": {"a": "}"}})
    for text in (answer, f"<think>{DRAFT}</think>{answer}", f"{DRAFT}</think>{answer}"):
        assert find_object(without_reasoning(text).text) == json.loads(answer)


@given(st.text(alphabet='<>/think{}[]"THINK:a1, \n|'), st.dictionaries(st.text(), st.text()))
def test_an_answer_after_closed_reasoning_is_always_found(
    noise: str, value: dict[str, str]
) -> None:
    text = f"<think>{noise}</think>{json.dumps(value)}"
    assert find_object(without_reasoning(text).text) == value


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (FINAL, True),
        (f"Here: {FINAL}", True),
        (f"```json\n{FINAL}\n```", True),
        (f"{FINAL} I chose it since", True),
        (f"Let me see. {FINAL} would be odd, so", False),
    ],
)
def test_an_object_in_the_middle_of_what_was_cut_off_is_a_draft(text: str, counts: bool) -> None:
    assert (find_final_object(text) is not None) == counts


# -------------------------------------------------------------------- the whole client
def ask(
    stub: StubServer, times: int = 1, spec: JudgeSpec | None = None, **options: Any
) -> list[Any]:
    async def run() -> list[Any]:
        limits = Limits(timeout=5.0, attempts=2, first_wait=0.01)
        async with Judge(stub.url, None, "stub", spec or JudgeSpec(), limits) as judge:
            judge.report_to(notices.append)
            answers: list[Any] = []
            for number in range(times):
                messages = [*MESSAGES[:1], {"role": "user", "content": f"Question {number}?"}]
                try:
                    answers.append((await judge.complete_json(messages, SCHEMA, **options))[0])
                except AnswerError as failed:
                    answers.append(failed)
            answers.append(judge.provenance())
            return answers

    notices: list[str] = []
    answered = asyncio.run(run())
    stub.notices = notices  # type: ignore[attr-defined]
    return answered


def thinks(tokens: int, how: str) -> Any:
    """A judge that needs so many tokens before it answers, with its thoughts shown some ``how``."""

    def respond(request: Request) -> Answer:
        room = request.get("max_tokens", 0)
        thoughts = f"Perhaps {DRAFT}, but let me see. " * 3
        final = json.dumps({"colour": "blue"} if "colour" in str(request) else {"word": "final"})
        cut = room < tokens + 20
        if how == "tags":
            text = f"<think>{thoughts}" + ("" if cut else f"</think>{final}")
            message = {"content": text}
        elif how == "template":  # the opening mark stood in the prompt
            message = {"content": thoughts + ("" if cut else f"</think>{final}")}
        elif how == "field":
            message = {"content": "" if cut else final, "reasoning_content": thoughts}
        else:
            message = {"content": None if cut else final}
        return Answer(message=message, finish="length" if cut else "stop")

    return respond


@pytest.mark.parametrize("how", ["tags", "template", "field", "hidden"])
def test_a_judge_that_thinks_900_tokens_gets_the_room(how: str) -> None:
    judge = thinks(900, how)
    with StubServer(respond=judge, on_probe=judge) as stub:
        *answers, provenance = ask(stub, times=3)
    assert answers == [{"word": "final"}] * 3
    rooms = [request["max_tokens"] for request in stub.requests]
    assert rooms == [160, 2048, 2048, 2048], "what was learned is kept"
    assert provenance["format"] == "json_schema" or how == "template"
    assert provenance["reasoning_room"] == 2048
    assert any("judge.max_output_tokens" in notice for notice in stub.notices)  # type: ignore[attr-defined]


def test_a_judge_that_never_ends_thinking_is_given_up_with_advice() -> None:
    judge = thinks(10**6, "tags")
    with StubServer(respond=judge, on_probe=judge) as stub:
        failed, _ = ask(stub)
    assert isinstance(failed, AnswerError)
    assert "while it was reasoning" in str(failed) and "judge.max_output_tokens" in str(failed)
    assert [request["max_tokens"] for request in stub.requests] == [160, 2048, 8192]


def test_more_room_that_the_endpoint_refuses() -> None:
    patient = thinks(400, "field")

    def judge(request: Request) -> Answer:
        if request["max_tokens"] > 1024:
            return error(400, "max_tokens is too large: the context length is 1024")
        return patient(request)

    with StubServer(respond=judge, on_probe=judge) as stub:
        first, second, _ = ask(stub, times=2)
    assert first == second == {"word": "final"}
    assert [request["max_tokens"] for request in stub.requests] == [160, 2048, 1024, 1024]


def test_one_who_rambles_is_not_given_ever_more_room() -> None:
    def judge(request: Request) -> Answer:
        return Answer("Well, you know, " * 9, finish="length")

    with StubServer(respond=judge) as stub:
        *failed, _ = ask(stub, times=3)
    assert all(isinstance(each, AnswerError) for each in failed)
    rooms = [request["max_tokens"] for request in stub.requests]
    assert rooms == [160, 2048, 160, 320, 160, 320]


def test_thoughts_are_not_salvaged() -> None:
    """``partial`` takes what is whole of an answer, never of a draft."""
    drafts = Answer(f"<think>{DRAFT}", finish="length")
    with StubServer(respond=lambda request: drafts) as stub:
        failed, _ = ask(stub, partial=True)
    assert isinstance(failed, AnswerError)
    middle = Answer(f"Let me see. {DRAFT} would be odd, so", finish="length")
    with StubServer(respond=lambda request: middle) as stub:
        assert isinstance(ask(stub, partial=True)[0], AnswerError)


@pytest.mark.parametrize("status", [400, 422, 500])
def test_where_there_is_no_system_role_its_text_goes_before_the_users(status: int) -> None:
    def judge(request: Request) -> Answer:
        if request["messages"][0]["role"] == "system":
            return error(status, "System role not supported")
        return good(colour="blue") if "colour" in str(request) else good(word="final")

    with StubServer(respond=judge, on_probe=judge) as stub:
        first, second, provenance = ask(stub, times=2)
    assert first == second == {"word": "final"}
    assert [[m["role"] for m in request["messages"]] for request in stub.requests] == [["user"]] * 2
    assert stub.requests[0]["messages"][0]["content"] == "Be brief.\n\nQuestion 0?"
    assert provenance["dialect"] == {"system_role": False}
    assert len(stub.probes) == 2
