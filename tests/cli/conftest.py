"""The real API on a real database, served on a port, for the CLI to call."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from sqlalchemy import Engine

from service.app import create_app
from service.database.session import transaction
from service.settings import Settings
from tests.support.library_rows import Library, add_library

# A console that is made while these are set keeps their size for good, whatever a test sets later.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)


@pytest.fixture(scope="module")
def library(module_engine: Engine) -> Library:
    with transaction(module_engine) as session:
        return add_library(session)


@pytest.fixture(scope="module")
def served(
    database_url: str, library: Library, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Address of the API."""
    home: Path = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, database_url=database_url, redis_url=None, log_level="ERROR")
    server = uvicorn.Server(
        uvicorn.Config(create_app(settings), host="127.0.0.1", port=0, log_config=None)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < end, "the API did not start"
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def environment(
    served: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Points the CLI at the served API and its database."""
    monkeypatch.setenv("MONOSEMY_HOME", str(tmp_path))
    monkeypatch.setenv("MONOSEMY_URL", served)
    monkeypatch.setenv("MONOSEMY_DATABASE_URL", database_url)
    monkeypatch.setenv("MONOSEMY_SECRET", "a secret of more than sixteen letters")
    return tmp_path
