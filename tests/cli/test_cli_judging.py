"""``monosemy judge check`` against a real endpoint, and where there is none."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from tests.support.batch_stub import BatchStub
from tests.support.planted_judge import PlantedJudge
from tests.support.stub_server import Answer, Request, StubServer, error, good


def silent_about_logprobs(request: Request) -> Answer:
    return error(400, "no logprobs here") if request.get("logprobs") else good(colour="blue")


def test_a_table_for_people_and_json_for_machines() -> None:
    with BatchStub(on_probe=silent_about_logprobs, offers=False) as stub:
        shown = CliRunner().invoke(app, ["judge", "check", "--url", stub.url])
        assert shown.exit_code == 0, shown.stderr
        assert shown.stdout.startswith("stub answers.")
        assert "JSON schema" in shown.stdout and "simulation asks for numbers" in shown.stdout
        result = CliRunner().invoke(app, ["judge", "check", "--url", stub.url, "--json"])
    data = {each["name"]: each for each in json.loads(result.stdout)["capabilities"]}
    assert data["JSON schema"]["there"] is True
    assert data["Batch API"]["there"] is False and data["answer logprobs"]["there"] is False


def test_no_judge_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONOSEMY_JUDGE_URL", raising=False)
    ended = CliRunner().invoke(app, ["judge", "check"])
    assert ended.exit_code == 2 and "MONOSEMY_JUDGE_URL" in ended.stderr
    away = CliRunner().invoke(app, ["judge", "check", "--url", "http://127.0.0.1:9/v1"])
    assert away.exit_code == 3 and "cannot be reached" in away.stderr
    assert len(away.stderr.strip().splitlines()) <= 2
    odd = CliRunner().invoke(app, ["judge", "check", "--url", "not an address"])
    assert odd.exit_code != 0 and "http://host:port/v1" in odd.stderr


def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-planted-secret-0123456789"
    monkeypatch.setenv("MONOSEMY_JUDGE_API_KEY", secret)

    def echoes(request: Request) -> Answer:
        return error(401, f"bad key {secret}")

    with BatchStub(on_probe=echoes) as stub:
        ended = CliRunner().invoke(app, ["judge", "check", "--url", stub.url])
    assert ended.exit_code == 1 and "refuses us" in ended.stderr
    assert secret not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(body="null"), "the body is null, no chat completion"),
        (Answer(body="[1, 2]"), "the body is a JSON list"),
        (
            Answer(status=400, body='{"detail": [{"loc": ["body", "x"], "msg": "odd"}]}'),
            "body.x: odd",
        ),
        (Answer(status=402, body='{"error": "Insufficient credits"}'), "quota"),
        (Answer(status=302, body=""), "HTTP 302, a redirect, which is not followed"),
        (
            Answer(body='{"error": {"message": "no such thing", "code": 404}}'),
            "HTTP 200 with an error inside: no such thing",
        ),
    ],
)
def test_trouble_is_said_in_a_line(
    answer: Answer, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monosemy.interp.judging.calls.random.uniform", lambda low, high: 0.0)
    with BatchStub(on_probe=lambda request: answer) as stub:
        ended = CliRunner().invoke(app, ["judge", "check", "--url", stub.url])
    assert ended.exit_code == 1 and words in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr and len(ended.stderr.strip().splitlines()) <= 4


def test_what_is_out_of_the_ordinary_is_a_line_each() -> None:
    def odd(request: Request) -> Answer:
        if request["messages"][0]["role"] == "system":
            return error(400, "System role not supported")
        for name in ("seed", "max_tokens"):
            if name in request:
                return Answer(status=400, body=f'{{"error": "{name} is not supported"}}')
        text = [{"type": "text", "text": '{"colour": "blue"}'}]
        return Answer(message={"content": text}, usage={"prompt_tokens": "many"})

    with BatchStub(on_probe=odd, offers=False) as stub:
        shown = CliRunner().invoke(app, ["judge", "check", "--url", stub.url])
        assert shown.exit_code == 0, shown.stderr
        result = CliRunner().invoke(app, ["judge", "check", "--url", stub.url, "--json"])
    assert json.loads(result.stdout)["findings"] == [
        "It refuses seed: left out.",
        "It refuses max_tokens: max_completion_tokens is sent.",
        "It refuses the system role: its text goes before the user's.",
        "Its answers stand in parts of content: they are taken from there.",
        "Its answers hold no token counts that can be read: each call counts with the most it can "
        "have cost.",
    ]
    assert "It refuses seed: left out." in shown.stdout


def test_the_judge_is_tested_in_both_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONOSEMY_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    with StubServer(respond=PlantedJudge(detects=0.5)) as stub:
        shown = CliRunner().invoke(app, ["judge", "check", "--url", stub.url, "--test"])
        assert shown.exit_code == 0, shown.stderr
        assert len(stub.requests) >= 60
    lines = shown.stdout.splitlines()
    assert any(line.startswith("It explains well: 1.00 right") for line in lines)
    [warned] = [line for line in lines if line.startswith("It detects at chance")]
    assert "n = 80" in warned and "embedding" in warned
    assert "not kept" in shown.stderr


def test_the_test_keeps_to_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONOSEMY_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    with StubServer(respond=PlantedJudge()) as stub:
        asked = ["judge", "check", "--url", stub.url, "--test", "--budget", "4"]
        unpriced = CliRunner().invoke(app, asked)
        assert unpriced.exit_code == 2 and "needs prices" in unpriced.stderr
        monkeypatch.setenv("MONOSEMY_JUDGE_PRICE_INPUT", "1000")
        monkeypatch.setenv("MONOSEMY_JUDGE_PRICE_OUTPUT", "1000")
        ended = CliRunner().invoke(app, asked)
        assert ended.exit_code == 1 and "not whole" in ended.stderr
        assert len(stub.requests) < 40
