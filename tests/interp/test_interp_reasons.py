"""Why an endpoint refused: read out of any body, shown without keys, and learned from."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monosemy.interp.judging.answers import object_schema
from monosemy.interp.judging.dialect import Dialect
from monosemy.interp.judging.failures import EndpointError, QuotaSpent, StatusError
from monosemy.interp.judging.reasons import LONGEST, reason_of, redactor
from monosemy.interp.judging.refusals import ends_everything

KEY = "sk-very-secret-0123456789"
SYSTEM = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Well?"}]
USER = SYSTEM[1:]
SCHEMA = object_schema({"word": {"type": "string", "minLength": 3}})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"message": "no seed", "type": "t", "code": None}}, "no seed"),
        ({"error": "no seed"}, "no seed"),
        ({"error": ["no seed", "no top_p"]}, "no seed; no top_p"),
        ([{"error": {"code": 400, "message": "no seed"}}], "no seed"),
        ({"detail": "no seed"}, "no seed"),
        (
            {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs", "input": "PROMPT"}]},
            "body.seed: Extra inputs",
        ),
        ({"object": "error", "message": "no seed", "code": 400}, "no seed"),
        ({"errors": [{"code": 7003, "message": "no seed"}]}, "no seed"),
        ({"error": {"message": '{"error": {"message": "no seed"}}'}}, "no seed"),
        (
            {"error": {"message": "Provider error", "metadata": {"raw": '{"detail": "no seed"}'}}},
            "Provider error; no seed",
        ),
        ({"title": "Bad", "detail": "no seed"}, "no seed; Bad"),
        ("no seed\n at all", "no seed at all"),
        (b"no seed \xff", "no seed \ufffd"),
        ("<html><title>502 Bad &amp; sad</title><body>x", "502 Bad & sad"),
        ("<p>no seed</p>", "no seed"),
        ({"unheard": ["of"]}, '{"unheard": ["of"]}'),
        ({}, ""),
        (None, ""),
        ("", ""),
        ("\x1b[31mred\x00", "[31mred"),
    ],
)
def test_every_shape_of_an_error(body: Any, expected: str) -> None:
    raw = body if isinstance(body, str | bytes) else json.dumps(body)
    assert reason_of(raw).text == expected


@given(
    st.recursive(
        st.none() | st.text() | st.integers() | st.booleans(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["error", "message", "loc", "code", "x"]), inner)
        ),
        max_leaves=30,
    )
)
def test_no_body_is_too_odd(body: Any) -> None:
    reason = reason_of(json.dumps(body))
    assert len(reason.text) <= LONGEST and reason.text.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {KEY}.",
        "Incorrect API key provided: sk-very-s***6789.",
        "Authorization: Bearer eyJhbGciOi.J9abc123",
        "key=AIzaSyD-0123456789abcdefghijk",
        "at https://user:hunter2secret@host/v1",
        "gsk_0123456789abcdef and hf_abcdefghijklmnop",
    ],
)
def test_keys_are_not_shown(text: str) -> None:
    shown = reason_of({"error": text}, redactor(KEY)).text
    for secret in ("secret", "very-s", "6789", "eyJ", "AIza", "hunter2", "0123", "abcdefghijk"):
        assert secret not in shown


def test_ordinary_words_are_no_keys() -> None:
    text = "The key parameter max_tokens exceeds the token allowance; token counting failed"
    assert reason_of({"error": text}, redactor(KEY)).text == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Please try again in 20s.", 20),
        ("try again in 1m30.5s", 90.5),
        ("try again in 250ms", 0.25),
        ("Please retry in 34.07s.", 34.07),
        ("Try again later", None),
        ("try again in a while", None),
    ],
)
def test_waits_that_are_told_in_words(text: str, seconds: float | None) -> None:
    assert reason_of({"error": text}).wait == (seconds and pytest.approx(seconds))


def refused(status: int, body: Any, wait: float | None = None) -> StatusError:
    reason = reason_of(body)
    return StatusError(status, reason, wait if wait is not None else reason.wait)


def error_of(message: str, code: str | None = None, type_: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "code": code, "type": type_}}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            429,
            error_of(
                "You exceeded your current quota, please check your plan and billing details.",
                "insufficient_quota",
                "insufficient_quota",
            ),
        ),
        (429, error_of("You exceeded your current quota, please check your plan.")),
        (400, error_of("Billing hard limit has been reached", "billing_hard_limit_reached")),
        (
            400,
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "Your credit balance is too low to access the Anthropic API.",
                },
            },
        ),
        (402, {"error": {"message": "Insufficient credits", "code": 402}}),
        (402, "nothing at all"),
        (402, {"error": "This request requires more credits, or fewer max_tokens."}),
        (429, {"detail": "Insufficient Balance"}),
        (403, {"message": "Spending limit reached"}),
        (500, error_of("oops", "insufficient_quota")),
        (
            400,
            {
                "error": {
                    "message": "Budget has been exceeded! Current cost: 3",
                    "type": "budget_exceeded",
                }
            },
        ),
    ],
)
def test_a_used_up_quota_is_recognised(status: int, body: Any) -> None:
    fatal = ends_everything(refused(status, body), "http://j/v1", "m", worked=True)
    assert isinstance(fatal, QuotaSpent)
    assert "used up" in str(fatal) and "what is done is kept" in str(fatal)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, error_of("Rate limit reached for requests", "rate_limit_exceeded")),
        (429, error_of("You exceeded your current quota. Please retry in 12s.")),
        (
            429,
            [
                {
                    "error": {
                        "message": "You exceeded your current quota",
                        "details": [{"retryDelay": "30s"}],
                    }
                }
            ],
        ),
        (503, {"error": "overloaded"}),
        (500, {"error": "insufficient credits of memory"}),
        (
            400,
            error_of(
                "This model's maximum context length is 4096 tokens", "context_length_exceeded"
            ),
        ),
        (400, error_of("'seed' is not supported with this model")),
        (403, error_of("Your input was flagged by moderation")),
    ],
)
def test_what_may_pass_or_concerns_one_item_ends_nothing(status: int, body: Any) -> None:
    assert ends_everything(refused(status, body), "http://j/v1", "m", worked=True) is None


@pytest.mark.parametrize(
    ("status", "body", "advice"),
    [
        (401, {"detail": "Unauthorized"}, "MONOSEMY_JUDGE_API_KEY"),
        (403, error_of("denied"), "MONOSEMY_JUDGE_API_KEY"),
        (
            400,
            [{"error": {"message": "API key not valid. Please pass a valid API key."}}],
            "API_KEY",
        ),
        (404, error_of("The model `m` does not exist."), "does not have the model 'm'"),
        (404, {"error": "model 'm' not found, try pulling it first"}, "does not have the model"),
        (400, error_of("m is not a valid model ID"), "does not have the model"),
        (400, {"message": "Invalid model: m", "type": "invalid_model"}, "does not have the model"),
        (404, "<html><title>Not found</title>", "ends in /v1"),
        (308, "", "Check the judge's address"),
    ],
)
def test_what_no_question_would_survive(status: int, body: Any, advice: str) -> None:
    fatal = ends_everything(refused(status, body), "http://j/v1", "m", worked=False)
    assert isinstance(fatal, EndpointError) and not isinstance(fatal, QuotaSpent)
    assert advice in str(fatal)


def test_a_firewall_that_dislikes_one_text_ends_that_item() -> None:
    page = refused(403, "<html><title>Request blocked</title>")
    assert ends_everything(page, "http://j/v1", "m", worked=True) is None
    assert ends_everything(page, "http://j/v1", "m", worked=False) is not None


# -------------------------------------------------------------------- learning
def learn(body: Any, messages: Any = USER, temperature: float = 0.7, **known: Any) -> Dialect:
    """The dialect after one refusal of a usual request."""
    dialect = Dialect("http://j/v1", **known)
    sent = dialect.parameters(SCHEMA, "answer", 160, temperature, 1)
    dialect.learn(reason_of(body), sent, messages)
    return dialect


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
         {"left_out": ["seed"]}),
        ({"error": "seed is not supported"}, {"left_out": ["seed"]}),
        ("Unknown field: seed", {"left_out": ["seed"]}),
        ([{"error": {"message": "Invalid JSON payload received. Unknown name \"seed\""}}],
         {"left_out": ["seed"]}),
        (error_of("Unsupported value: 'temperature' does not support 0 with this model."),
         {"left_out": ["temperature"]}),
        ({"error": {"message": "no", "param": "temperature"}}, {"left_out": ["temperature"]}),
        ({"error": "`temperature` must be strictly positive"}, {"least_temperature": 0.01}),
        (error_of("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
         {"limit": "max_completion_tokens"}),
        ({"detail": [{"loc": ["body", "max_tokens"], "msg": "Extra inputs are not permitted"}]},
         {"limit": "max_completion_tokens"}),
        ("Unsupported parameter: seed. Supported parameters: max_tokens, temperature",
         {"left_out": ["seed"]}),
        # What is wrong is the text, not a parameter.
        (error_of("'max_tokens' or 'max_completion_tokens' is too large: 160. This model's maximum "
                  "context length is 128 tokens."), {}),
        (error_of("The server's thermostat seeds no clouds"), {}),
        (None, {}),
    ],
)  # fmt: skip
def test_a_refused_parameter_is_left_out_or_swapped(body: Any, expected: dict[str, Any]) -> None:
    raw = body if isinstance(body, str) else json.dumps(body)
    assert learn(raw).as_dict() == expected


def test_a_limit_by_no_name() -> None:
    dialect = Dialect("http://j/v1")
    for name in ("max_tokens", "max_completion_tokens"):
        sent = dialect.parameters(SCHEMA, "answer", 160, 0, 0)
        assert name in sent
        assert dialect.learn(reason_of(f"unknown field {name}"), sent, USER)
    assert dialect.limit(160) == {} and dialect.as_dict() == {"limit": None}
    careful = Dialect("http://j/v1", bounded=True, limit_name="max_completion_tokens")
    sent = careful.parameters(SCHEMA, "answer", 160, 0, 0)
    with pytest.raises(EndpointError, match=r"Leave judge\.budget out"):
        careful.learn(reason_of("unknown field max_completion_tokens"), sent, USER)


@pytest.mark.parametrize(
    "body",
    [
        {"error": "response_format is not supported"},
        {"detail": [{"loc": ["body", "response_format", "type"], "msg": "Input should be 'text'"}]},
        "Guided decoding is off",
    ],
)
def test_a_refused_format(body: Any) -> None:
    raw = body if isinstance(body, str) else json.dumps(body)
    assert not learn(raw).schema_limits
    assert learn(raw, schema_limits=False).format == "json_object"


@pytest.mark.parametrize(
    "reason",
    [
        "System role not supported",
        {"error": {"message": "Developer instruction is not enabled for models/gemma-3-27b-it"}},
        {"error": "Template error: Conversation roles must alternate user/assistant/user/..."},
        {"error": {"message": "'messages[0].role' does not support 'system' with this model."}},
        {"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "Input should be 'user'"}]},
        {"error": {"message": "bad", "param": "messages[0].role"}},
        {"message": "Only user and assistant roles are supported!"},
        "unsupported role: system",
        "This model does not support system messages",
    ],
)
def test_a_refused_system_role(reason: Any) -> None:
    dialect = learn(reason if isinstance(reason, str) else json.dumps(reason), SYSTEM)
    assert dialect.as_dict() == {"system_role": False}
    assert dialect.messages(SYSTEM) == [{"role": "user", "content": "Be brief.\n\nWell?"}]
    # Without a system message it cannot be its fault.
    assert learn(reason if isinstance(reason, str) else json.dumps(reason), USER).system


def test_neighbours_of_one_role_become_one_message() -> None:
    dialect = Dialect("http://j/v1", system=False)
    roles = [("system", "a"), ("user", "b"), ("assistant", "c"), ("user", "d"), ("user", "e")]
    messages = [{"role": role, "content": content} for role, content in roles]
    assert [(m["role"], m["content"]) for m in dialect.messages(messages)] == [
        ("user", "a\n\nb"),
        ("assistant", "c"),
        ("user", "d\n\ne"),
    ]
    assert messages[0]["role"] == "system", "the question itself, and its key, stay as they are"
