"""Secrets are planted, everything is made to fail, and all that was written is searched."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine, make_url, text

from service.app import create_app
from service.database.session import transaction
from service.observability.logs import JsonFormatter
from service.settings import Settings
from tests.support import run_acts as acts
from tests.support.keys import fresh_key
from tests.support.stub_server import Answer, Request, StubServer, error, good
from tests.support.trained_library import Trained
from workers.interp import InterpRuns
from workers.worker import Worker

pytestmark = pytest.mark.integration

JUDGE_KEY = "sk-planted-judge-key-0123456789"
HMAC_SECRET = "planted-hmac-secret-of-many-characters"
DATABASE_PASSWORD = "planted-database-password"

EXPLAIN = {
    "kind": "explain",
    "sae": "tiny",
    "explanation": {
        "features": {"count": 2, "min_postings": 20, "max_density": 1.0},
        "examples": 4,
    },
}


class Kept(logging.Handler):
    """Every line of the log, whatever its level, as it would be written."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(JsonFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def everything_logged() -> Iterator[Kept]:
    root, kept = logging.getLogger(), Kept()
    level = root.level
    root.addHandler(kept)
    root.setLevel(logging.DEBUG)
    try:
        yield kept
    finally:
        root.removeHandler(kept)
        root.setLevel(level)


def every_row(engine: Engine) -> str:
    with transaction(engine) as session:
        tables = session.execute(
            text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ).scalars()
        return "\n".join(
            row
            for table in list(tables)
            for row in session.execute(text(f'SELECT t::text FROM "{table}" t')).scalars()
        )


def every_file(home: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in home.rglob("*") if path.is_file())


def tattling(request: Request) -> Answer:
    """Providers do repeat the key that they do not like."""
    return error(401, f"Incorrect API key provided: {JUDGE_KEY}. Authorization: Bearer {JUDGE_KEY}")


def echoing(request: Request) -> Answer:
    return good(label=JUDGE_KEY, explanation=f"Bearer {JUDGE_KEY}", confidence="high")


@pytest.fixture
def settings(trained: Trained) -> Settings:
    return trained.settings.model_copy(
        update={
            "judge_model": "stub",
            "judge_api_key": SecretStr(JUDGE_KEY),
            "secret": SecretStr(HMAC_SECRET),
            "require_keys": True,
            "inference_url": "http://127.0.0.1:9",
        }
    )


def test_nothing_that_is_secret_is_written(trained: Trained, settings: Settings) -> None:
    places: list[str] = []
    with everything_logged() as log:
        for respond in (tattling, echoing):
            with StubServer(respond=respond) as stub:
                asked = settings.model_copy(update={"judge_url": stub.url})
                run = acts.submit(trained.engine, EXPLAIN)
                worker = Worker("interp", asked, InterpRuns(asked, trained.engine), trained.engine)
                assert worker._take_one()
                assert stub.headers and JUDGE_KEY in stub.headers[0]["authorization"]
                places.append(repr(acts.load(trained.engine, run).error))
        with transaction(trained.engine) as session:
            key = fresh_key(session, "reader", ["read", "run", "infer", "admin"], HMAC_SECRET)
        with TestClient(create_app(settings)) as client:
            right = {"Authorization": f"Bearer {key}"}
            for headers in (right, {"Authorization": f"Bearer {key}x"}, {"X-API-Key": key[:-1]}):
                for path in ("runs", "runs/x", "audit", "readyz", "saes/tiny", f"saes/{key}"):
                    places.append(client.get(f"/api/v1/{path}", headers=headers).text)
            body = {"sae": "tiny", "text": "x"}
            answer = client.post("/api/v1/inference/activations", json=body, headers=right)
            places.append(answer.text)
            places.append(client.post("/api/v1/runs", json={"key": key}, headers=right).text)
        away = settings.model_copy(
            update={"database_url": f"postgresql://u:{DATABASE_PASSWORD}@127.0.0.1:9/none"}
        )
        with TestClient(create_app(away)) as client:
            for path in ("readyz", "saes", "metrics"):
                places.append(client.get(f"/api/v1/{path}", headers=right).text)
        logging.getLogger("anything").error("the settings are %s", settings)
    written = {
        "log": "\n".join(log.lines),
        "rows": every_row(trained.engine),
        "files": every_file(settings.home).decode(errors="replace"),
        "answers": "\n".join(places).replace(f"/saes/{key}", "").replace(f"'{key}'", ""),
    }
    assert "unauthenticated" in written["answers"] and "explain" in written["rows"]
    for where, what in written.items():
        own = make_url(settings.database_url or "").password
        secrets = (JUDGE_KEY, HMAC_SECRET, DATABASE_PASSWORD, own, key, key[11:])
        for secret in filter(None, secrets):
            at = what.find(secret)
            assert at < 0, (where, what[max(0, at - 300) : at + 100])
