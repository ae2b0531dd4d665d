"""The explorer on a real database and server; ``FakeInference`` plays the inference server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Engine, make_url, text

from service.app import create_app
from service.database.session import make_engine, transaction
from service.keys.service import create_key
from service.settings import Settings
from tests.pages.entering import MakeKey
from tests.service.conftest import FakeInference
from tests.support.api_settings import CLOSED, SECRET, api_settings
from tests.support.benchmark_rows import add_benchmarks
from tests.support.browser import PATIENCE_MS, WIDE, Watch, launched
from tests.support.circuit_rows import add_circuits
from tests.support.compared_rows import add_comparison
from tests.support.concept_rows import add_concept
from tests.support.feature_circuit_rows import add_feature_circuit
from tests.support.fixtures_database import copied_database
from tests.support.gathered_rows import add_list, add_tag, add_to_set
from tests.support.graph_rows import (
    SERVED,
    add_graph,
    add_graphs,
    add_paraphrases,
    add_steerable,
)
from tests.support.library_rows import Library, add_library
from tests.support.run_rows import add_runs
from tests.support.scored_rows import RAW, add_scored
from tests.support.served import served
from tests.support.task_rows import add_task

SET = "every layer"


@pytest.fixture(scope="package")
def stocked(postgres: str, template_database: str) -> Iterator[tuple[str, Library]]:
    """Name of a database that each file is given a copy of, and what is in it: a library with a
    list of three features, one of none, a tag, features in every state of being explained and
    scored (``scored_rows``), runs in every state (``run_rows``), a comparison with another SAE,
    a task, results of a benchmark, two circuits, a concept, a set of which one SAE of two is left,
    three graphs, three of one run, and a feature circuit."""
    with copied_database(postgres, template_database) as url:
        engine = make_engine(url)
        with transaction(engine) as session:
            library = add_library(session)
            add_list(session, library, "royalty", [3, 17, 8], note="crowns")
            add_list(session, library, "empty", [])
            add_tag(session, library, "people", 3, 4)
            add_scored(session, library)
            add_runs(session, library)
            add_comparison(session, library, RAW)
            add_task(session, library)
            add_benchmarks(session, library.name, RAW)
            add_circuits(session)
            add_to_set(session, RAW, SET)
            add_concept(session, library)
            add_paraphrases(session, [(library.sae, library.name)])
            add_graph(
                session, [(library.sae, library.name)], id=SERVED, name="served", checked=False
            )
            add_steerable(session, library.sae, library.name)
            session.flush()
            add_graphs(session)
            add_feature_circuit(session)
        engine.dispose()
        yield str(make_url(url).database), library


@pytest.fixture(scope="module")
def database_url(postgres: str, stocked: tuple[str, Library]) -> Iterator[str]:
    with copied_database(postgres, stocked[0]) as url:
        yield url


@pytest.fixture(scope="module")
def library(stocked: tuple[str, Library]) -> Library:
    """What is in the file's database: see ``stocked``."""
    return stocked[1]


@pytest.fixture(scope="module")
def inference() -> FakeInference:
    return FakeInference()


@pytest.fixture(scope="module")
def page_settings(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home: Path = tmp_path_factory.mktemp("home")
    return api_settings(home, database_url)


@pytest.fixture(scope="module")
def explorer(page_settings: Settings, library: Library, inference: FakeInference) -> Iterator[str]:
    """Address of the explorer, in open mode, over ``library``."""
    with served(create_app(page_settings, inference.transport())) as address:
        yield address


@pytest.fixture(scope="module")
def closed(page_settings: Settings, library: Library, inference: FakeInference) -> Iterator[str]:
    """Address of the explorer where keys are asked for."""
    settings = Settings(**{**page_settings.model_dump(), **CLOSED})
    with served(create_app(settings, inference.transport())) as address:
        yield address


@pytest.fixture
def make_key(module_engine: Engine) -> MakeKey:
    """Makes keys for ``closed``, in a database without others."""
    with transaction(module_engine) as session:
        for table in ("browser_sessions", "audit_entries", "api_keys"):
            session.execute(text(f"DELETE FROM {table}"))

    def make(scope: str = "run", name: str = "laptop", **limits: Any) -> str:
        with transaction(module_engine) as session:
            return create_key(session, name, [scope], SECRET, **limits)

    return make


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """One for the files of this folder, no longer: while Playwright runs, its thread can run no
    other event loop."""
    with launched() as browser:
        yield browser


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """``open_page(address, **options of a context)``: a page in a profile of its own; at the end
    nothing may have gone wrong in any of them."""
    opened: list[tuple[Any, Watch]] = []

    def open_(address: str, **options: Any) -> Any:
        allowed = options.pop("allowed", [])
        context = browser.new_context(**{"viewport": WIDE, **options})
        context.set_default_timeout(PATIENCE_MS)
        watch = Watch(urlsplit(address).netloc, allowed=list(allowed))
        page = context.new_page()
        watch.follow(page)
        page.goto(address)
        opened.append((context, watch))
        return page

    yield open_
    for context, _ in opened:
        context.close()
    for _, watch in opened:
        watch.check()
