"""Keys and passwords in texts that are kept: by place, by shape, by form; in JSON, within JSON, in
headers, in texts of exceptions."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from monosemy.redaction import scrubbed, without_keys
from service.observability.logs import JsonFormatter

RANDOM = "abcDEF0123456789abcDEF0123456789abcdef"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4fwpMeJf36"
SHAPES = [
    f"sk-{RANDOM}",
    f"sk-proj-{RANDOM}",
    f"sk-ant-api03-{RANDOM}",
    f"sk-or-v1-{RANDOM}",
    f"hf_{RANDOM}",
    f"gsk_{RANDOM}",
    f"xai-{RANDOM}",
    f"mnsy_{RANDOM}",
    f"r8_{RANDOM}",
    f"nvapi-{RANDOM}",
    f"ghp_{RANDOM}",
    f"github_pat_{RANDOM}",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "AKIAIOSFODNN7EXAMPLE",
    "xoxb-1234567890-abcdefghij",
    JWT,
]
SECRETS = ["hunter2", "correct horse", "x", 'quo"ted', "back\\slash"]


@pytest.mark.parametrize("key", SHAPES)
@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "key {} is wrong",
        "({})",
        '{{"a": "{}"}}',
        "https://host.example/v1?x={}&y=1",
        "Authorization: Bearer {}",
    ],
)
def test_keys_are_known_by_their_shape(key: str, around: str) -> None:
    redacted = without_keys(around.format(key))
    assert key not in redacted and RANDOM[8:] not in redacted and "***" in redacted


@pytest.mark.parametrize(
    "text",
    [
        "https://host/v1?api_key=hunter2&x=1",
        "https://host/v1?x=1&access_token=hunter2",
        "https://user:hunter2@host/v1",
        "postgresql://monosemy:hunter2@postgres:5432/monosemy",
        "redis://:hunter2@redis:6379/0",
        "X-API-Key: hunter2",
        "x-api-key: hunter2\r\nAccept: */*",
        "Authorization: Basic aHVudGVyMjpodW50ZXIy",
        "authorization: token hunter2hunter2",
        "MONOSEMY_SECRET=hunter2 monosemy serve",
        "PGPASSWORD=hunter2",
        "password='hunter2' host='x'",
        "api_key = 'hunter2'",
        "{'X-Api-Key': 'hunter2'}",
        "[(b'authorization', b'hunter2')]",
        '{"api_key": "hunter2',
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nhunter2",
        "Cookie: a=b; monosemy_session=hunter2; c=d",
        "Set-Cookie: __Host-monosemy=hunter2; Path=/",
        "__Secure-monosemy=hunter2",
        "X-CSRF-Token: hunter2",
        "{'csrf_token': 'hunter2'}",
    ],
)
def test_secrets_are_known_by_their_place(text: str) -> None:
    redacted = without_keys(text)
    assert "hunter2" not in redacted and "aHVudGVy" not in redacted and "***" in redacted


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_json_within_json(secret: str, depth: int) -> None:
    text = json.dumps({"n": 1, "password": secret, "z": "kept"})
    for _ in range(depth - 1):
        text = json.dumps({"body": text, "after": "kept too"})
    redacted = without_keys(text)
    assert "***" in redacted and "kept" in redacted
    for _ in range(depth - 1):
        redacted = json.loads(redacted)["body"]
    assert json.loads(redacted) == {"n": 1, "password": "***", "z": "kept"}


@pytest.mark.parametrize(
    "text",
    [
        "task-management-of-things-and-more",
        "prompt_tokens: 12, max_tokens=5",
        "api_key=None",
        "the key 'a' is no secret to anybody",
        "https://host.example/v1/models?x=1@y",
        "a risk-averse-and-long-word",
        "sae blocks.3.hook_resid_post of HuggingFaceTB/SmolLM2-135M",
        "f3a9c0de" * 8,
        "0b9bd0a4-0a3c-4f3b-8a38-9d0a5a7c1f11",
    ],
)
def test_other_texts_are_left_alone(text: str) -> None:
    assert without_keys(text) == text


def test_it_does_not_get_slow() -> None:
    """Each of these took minutes with one careless pattern; the bound is far from both."""
    for text in (
        '"' * 50_000,
        "\\" * 50_000 + '"',
        "a_" * 50_000,
        "://" * 20_000,
        "secret=" * 9_000,
    ):
        without_keys(text + "api_key='")


def test_values_of_fields_that_are_named_so() -> None:
    given = {
        "api_key": "x",
        "n": 1,
        "inner": [{"Authorization": "y"}, "Bearer 12345678"],
        "t": None,
    }
    assert scrubbed(given) == {
        "api_key": "***",
        "n": 1,
        "inner": [{"Authorization": "***"}, "Bearer ***"],
        "t": None,
    }


@pytest.mark.parametrize("secret", SECRETS[:1])
@pytest.mark.parametrize(
    "message", ["password='{}", "url https://a:{}@b", "api_key={}", '"token" sk-{}']
)
def test_log_lines_stay_json(secret: str, message: str) -> None:
    try:
        raise RuntimeError(f"api_key={secret} was refused")
    except RuntimeError:
        error = sys.exc_info()
    text = message.format(f"{secret}-{RANDOM}")
    record = logging.LogRecord("a", logging.INFO, __file__, 1, text, (), error)
    record.headers = {"x-api-key": secret}
    line = JsonFormatter().format(record)
    entry = json.loads(line)
    assert secret not in line and RANDOM not in line
    assert entry["headers"] == {"x-api-key": "***"} and "was refused" in entry["traceback"]
