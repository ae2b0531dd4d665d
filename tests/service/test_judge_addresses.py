"""Which judges a run may name, at submission and in the worker; and where the key goes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine

from monosemy.errors import DataError
from monosemy.interp.judging.answers import object_schema
from monosemy.interp.judging.endpoint import Limits
from monosemy.interp.judging.failures import EndpointError
from monosemy.interp.judging.judge import Judge
from monosemy.specs import JudgeSpec
from service.app import create_app
from service.runs.sources import is_own_judge
from service.settings import Settings
from tests.support.library_rows import Library
from tests.support.stub_server import Answer, StubServer, good

pytestmark = pytest.mark.integration

OWN = "https://own.example/v1"
KEY = "sk-very-secret-0123456789"


@pytest.fixture
def configured(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "judge_url": OWN,
            "judge_model": "own-model",
            "judge_api_key": SecretStr(KEY),
            "outbound_allow": "other.example, http://127.0.0.1:9/v1",
        }
    )


@pytest.fixture
def asked(configured: Settings, library: Library, inference: Any) -> Iterator[TestClient]:
    app = create_app(configured, inference.transport())
    with TestClient(app, base_url="http://127.0.0.1:8420", client=("127.0.0.1", 5)) as client:
        yield client


URLS = [
    (None, 201),
    (OWN, 201),
    ("HTTPS://OWN.example:443/v1/", 201),
    ("https://other.example/v1", 201),
    ("http://127.0.0.1:9/v1", 201),
    ("https://own.example/v2", 422),
    ("http://own.example/v1", 422),
    ("https://own.example@evil.example/v1", 422),
    ("https://own.example.evil.example/v1", 422),
    ("http://127.0.0.1:10/v1", 422),
    ("http://2130706433:9/v1", 422),
    ("http://169.254.169.254/latest", 422),
    ("file:///etc/passwd", 422),
    ("https://other.example/v1?x", 422),
    ("", 422),
    ("x" * 501, 422),
]


@pytest.mark.parametrize(("url", "status"), URLS)
def test_runs_name_only_judges_that_are_allowed(
    asked: TestClient, url: str | None, status: int
) -> None:
    judge = {"url": url}
    specs = [
        ("explanation.judge.url", {"kind": "explain", "sae": "demo"}, "explanation"),
        ("scoring.judge.url", {"kind": "score", "sae": "demo"}, "scoring"),
        ("explanation.judge.url", {"kind": "pipeline"}, "explanation"),
    ]
    for path, spec, part in specs:
        answer = asked.post("/api/v1/runs", json={**spec, part: {"judge": judge}})
        assert answer.status_code == status, answer.text
        if status == 422:
            assert path in [error["path"] for error in answer.json()["errors"]]
    many = {"kind": "pipeline", "scoring": [{}, {"judge": judge}]}
    answer = asked.post("/api/v1/runs", json=many)
    assert answer.status_code == status
    if status == 422:
        assert answer.json()["errors"][0]["path"].startswith("scoring.1")


def test_the_worker_asks_again_and_keeps_the_key_to_itself(
    configured: Settings, engine: Engine
) -> None:
    from workers.judges import open_judge

    def opened(url: str | None) -> Judge:
        judge = open_judge(configured, engine, uuid.uuid4(), JudgeSpec(url=url))
        assert judge is not None
        return judge

    for url in (None, OWN, "https://own.example:443/v1"):
        endpoint = opened(url)._endpoint
        assert (endpoint.address, endpoint.model) == (OWN, "own-model")
        assert endpoint._wire._client.api_key == KEY
    other = opened("https://other.example/v1")._endpoint
    assert (other.address, other.model) == ("https://other.example/v1", None)
    assert other._wire._client.api_key == "none"
    with pytest.raises(DataError, match="does not allow"):
        opened("https://evil.example/v1")


def test_without_a_configured_judge_only_those_allowed(settings: Settings) -> None:
    assert settings.judge_url is None
    assert is_own_judge(settings, None)
    assert not is_own_judge(settings, "https://own.example/v1")
    assert not is_own_judge(settings, "")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_judge_that_sends_us_elsewhere_is_not_followed(status: int) -> None:
    schema = object_schema({"word": {"type": "string"}})

    async def ask(url: str) -> None:
        async with Judge(url, KEY, "stub", JudgeSpec(), Limits(attempts=2)) as judge:
            await judge.complete_json([{"role": "user", "content": "secret"}], schema)

    with StubServer(respond=lambda request: good(word="x")) as elsewhere:
        target = f"{elsewhere.url}/chat/completions"
        sent_on = Answer(status=status, body="{}", headers={"Location": target})
        with (
            StubServer(respond=lambda request: sent_on, on_probe=lambda request: sent_on) as first,
            pytest.raises(EndpointError, match="address"),
        ):
            asyncio.run(ask(first.url))
        assert not elsewhere.requests
