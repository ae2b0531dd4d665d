"""An API that asks for keys, and keys for it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from service.app import create_app
from service.database.session import transaction
from service.keys.service import create_key
from service.settings import Settings
from tests.support.api_settings import CLOSED, SECRET, api_settings

LOOPBACK = "http://127.0.0.1:8420"
TABLES = ("audit_entries", "browser_sessions", "runs", "feature_lists", "api_keys")


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return api_settings(tmp_path, database_url, **CLOSED)


@pytest.fixture
def make_key(engine: Engine) -> Callable[..., str]:
    """Makes a key of some scopes, in a database without others."""
    with transaction(engine) as session:
        for table in TABLES:
            session.execute(text(f"DELETE FROM {table}"))

    def make(*scopes: str, name: str | None = None, **limits: object) -> str:
        given = name or f"key {uuid.uuid4().hex[:8]}"
        with transaction(engine) as session:
            return create_key(session, given, scopes or ("run",), SECRET, **limits)  # type: ignore[arg-type]

    return make


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    app = create_app(settings)
    with TestClient(app, base_url=LOOPBACK, client=("127.0.0.1", 50000)) as client:
        yield client
