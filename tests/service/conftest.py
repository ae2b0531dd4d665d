"""The API on a real database; the inference server is played by ``FakeInference``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from service.app import create_app
from service.database.session import transaction
from service.settings import Settings
from tests.support.api_settings import api_settings
from tests.support.library_rows import Library, add_library, unit

LOOPBACK = "http://127.0.0.1:8420"


class FakeInference:
    """Answers like the inference server: a word's embedding is looked up, the rest is noted."""

    def __init__(self) -> None:
        self.axes: dict[str, int] = {}
        self.requests: list[tuple[str, Any]] = []
        self.answer: dict[str, Any] | None = None
        self.answers: dict[str, dict[str, Any]] = {}
        """By path, where not all have the same."""
        self.events: list[Any] | None = None
        """Lines of a streamed answer."""
        self.lines: Callable[[Any], Iterator[Any]] | None = None
        """Or what makes them for a body, as slowly as it likes."""
        self.status = 200
        self.away = False

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._handle)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("connection refused", request=request)
        body = json.loads(request.content) if request.content else None
        self.requests.append((request.url.path, body))
        if self.lines is not None and request.url.path == "/steer":
            made = self.lines(body)
            return httpx.Response(200, content=(f"{json.dumps(each)}\n".encode() for each in made))
        if self.events is not None:
            lines = [each if isinstance(each, str) else json.dumps(each) for each in self.events]
            return httpx.Response(200, text="".join(f"{line}\n" for line in lines))
        if request.url.path in self.answers:
            return httpx.Response(200, json=self.answers[request.url.path])
        if self.answer is not None or self.status != 200:
            return httpx.Response(self.status, json=self.answer)
        if request.url.path == "/embed":
            vectors = [unit(self.axes.get(text, 383)) for text in body["texts"]]
            return httpx.Response(200, json={"embeddings": vectors})
        return httpx.Response(200, json={"status": "ok"})


@pytest.fixture(scope="module")
def library(module_engine: Engine) -> Library:
    with transaction(module_engine) as session:
        return add_library(session)


@pytest.fixture
def inference() -> FakeInference:
    return FakeInference()


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return api_settings(tmp_path, database_url)


@pytest.fixture
def nothing_queued(engine: Engine) -> Iterator[None]:
    """No run, no setting of a queue and no key, before the test and after it."""

    def empty() -> None:
        with transaction(engine) as session:
            for table in ("runs", "queues", "submissions", "api_keys"):
                session.execute(text(f"DELETE FROM {table}"))

    empty()
    yield
    empty()


@pytest.fixture
def client(settings: Settings, inference: FakeInference) -> Iterator[TestClient]:
    app = create_app(settings, inference.transport())
    with TestClient(app, base_url=LOOPBACK, client=("127.0.0.1", 50000)) as client:
        yield client


def walk(client: TestClient, url: str, **params: Any) -> list[dict[str, Any]]:
    """Every item of a listing, page by page."""
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    for _ in range(1000):
        given = {**params, **({"cursor": cursor} if cursor else {})}
        page = client.get(url, params=given)
        assert page.status_code == 200, page.text
        items += page.json()["items"]
        cursor = page.json()["next_cursor"]
        if cursor is None:
            return items
    raise AssertionError("the listing does not end")


@pytest.fixture(scope="session")
def walk_pages() -> Any:
    return walk
