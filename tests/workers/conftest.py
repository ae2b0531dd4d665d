"""A Valkey server and a database emptied for each test."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, text

from service.database.session import make_engine, transaction
from service.database.tables import Run
from service.runs import lifecycle
from service.settings import Settings
from service.stack.valkey import EmbeddedValkey
from tests.support.trained_library import SITE, Trained

if TYPE_CHECKING:
    from monosemy.models.host import HostModel
    from monosemy.specs import TextSpec
    from tests.support.planted_saes import Planted

_numbers = count()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def redis_url(valkey: EmbeddedValkey) -> str:
    """An own database: a broker takes each actor once, and every test's worker brings its own."""
    return f"{valkey.url}?db={next(_numbers) % 16}"


@pytest.fixture
def clean_engine(engine: Engine) -> Engine:
    """The module's database without any run, SAE or model."""
    with transaction(engine) as session:
        session.execute(text("TRUNCATE runs, saes, models, contexts, documents CASCADE"))
    return engine


@pytest.fixture
def settings(tmp_path: Path, database_url: str, redis_url: str) -> Settings:
    return Settings(
        home=tmp_path,
        database_url=database_url,
        redis_url=redis_url,
        inference_url=None,
        judge_url=None,
        lease_seconds=2.0,
        poll_seconds=0.2,
        log_level="WARNING",
    )


@pytest.fixture(scope="session")
def tiny_spec(host_folder: Path, tiny_text: TextSpec) -> dict[str, Any]:
    """A training run of a second."""
    return {
        "kind": "train",
        "name": "tiny",
        "model": {"name": str(host_folder), "dtype": "float32", "device": "cpu"},
        "text": tiny_text.model_dump(),
        "site": SITE,
        "sae": {"d_sae": 64, "k": 4, "dead_after_tokens": 20_000},
        "training": {
            "tokens": 30_000,
            "batch_tokens": 256,
            "buffer_tokens": 2048,
            "warmup_steps": 5,
            "learning_rate": 0.003,
        },
    }


@pytest.fixture(scope="module")
def trained(
    tiny_spec: dict[str, Any], database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trained]:
    from monosemy.specs import parse_spec
    from workers.gpu import GpuRuns
    from workers.worker import Worker

    settings = Settings(
        home=tmp_path_factory.mktemp("home"), database_url=database_url, redis_url=None
    )
    engine = make_engine(database_url)
    spec = {
        **tiny_spec,
        "kind": "pipeline",
        "evaluation": {"tokens": 512, "reconstruction_tokens": 1024},
        "indexing": {"top_examples": 4, "quantile_examples": 2, "window": 8},
        "explanation": None,
        "scoring": None,
    }
    with transaction(engine) as session:
        pipeline = lifecycle.create_run(session, parse_spec(spec)).id
    worker = Worker("gpu", settings, GpuRuns(settings, engine), engine)
    while worker._take_one():
        pass
    with transaction(engine) as session:
        done = session.get_one(Run, pipeline)
    assert done.state == "succeeded", done.error
    yield Trained(settings, engine, done, spec)
    engine.dispose()


@pytest.fixture(scope="module")
def planted(tiny_host: HostModel, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """The tiny host with a chat template, beside an empty artifact root."""
    from monosemy.models.host import HostModel
    from tests.support.planted_saes import Planted
    from tests.support.tiny_chats import TEMPLATE

    home = tmp_path_factory.mktemp("home")
    tokenizer = copy.deepcopy(tiny_host.tokenizer)
    answer_next = "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
    tokenizer.chat_template = TEMPLATE + answer_next
    tiny_host.model.save_pretrained(home / "chatty")
    tokenizer.save_pretrained(home / "chatty")
    host = HostModel.wrap(tiny_host.model, tokenizer, "chatty")
    return Planted(home / "artifacts", host, home / "chatty")
