"""The servers and profiles in which the states of ``states.py`` are seen."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from service.app import create_app
from service.benchmarks.repository import keep_result
from service.circuits.repository import store_circuit
from service.concepts.repository import keep_concept
from service.database.session import make_engine, transaction
from service.database.tables import Feature, Run, Sae
from service.keys.service import create_key
from service.queues.repository import change_queue
from service.tasks.repository import keep_task
from tests.pages.answers import contrasted, reading, written
from tests.service.conftest import FakeInference
from tests.support.api_settings import CLOSED, SECRET, api_settings
from tests.support.attention_rows import add_attention
from tests.support.benchmark_rows import odd_benchmark
from tests.support.circuit_rows import circuit_of_strangers
from tests.support.concept_rows import concept_result
from tests.support.fixtures_database import copied_database
from tests.support.gathered_rows import add_to_set
from tests.support.graph_rows import add_graph, heads_answer, score_answer, steered, texas
from tests.support.hostile_rows import NAME, ODD_HEADS, ODD_STREAM, TOKENS, WORDS, add_hostile
from tests.support.lens_rows import ANSWER as LENS_ANSWER
from tests.support.lens_rows import (
    HEADS_SITE,
    STREAM_SITE,
    add_attention_sae,
    said_by_strangers,
)
from tests.support.library_rows import Library, add_explanation, add_library
from tests.support.logged_in import log_in
from tests.support.run_rows import HOSTILE, tell
from tests.support.served import served
from tests.support.task_rows import task_result

NO_DATABASE = "postgresql+psycopg://nobody@127.0.0.1:1/none?connect_timeout=1"


@dataclass
class World:
    """A server, and how a browser comes to it."""

    address: str
    names: dict[str, str] = field(default_factory=dict)
    """What ``{name}`` in a state's path stands for."""
    cookie: dict[str, Any] | None = None


@dataclass
class Worlds:
    """Made when they are first asked for, closed together."""

    postgres: str
    stocked: str
    bare: str
    """Names of the databases that are copied."""
    home: Path
    stack: ExitStack = field(default_factory=ExitStack)
    made: dict[str, World] = field(default_factory=dict)

    def __getitem__(self, name: str) -> World:
        if name not in self.made:
            self.made[name] = _MAKERS[name](self)
        return self.made[name]

    def serve(self, database: str, inference: FakeInference, **more: Any) -> str:
        settings = api_settings(self.home, database, **more)
        return self.stack.enter_context(served(create_app(settings, inference.transport())))

    def copy(self, template: str) -> tuple[str, Engine]:
        url = self.stack.enter_context(copied_database(self.postgres, template))
        engine = make_engine(url)
        self.stack.callback(engine.dispose)
        return url, engine


def _library(worlds: Worlds) -> World:
    return World(worlds.serve(_with_heads(worlds), answering()))


def _with_heads(worlds: Worlds) -> str:
    """Address of a library that has a surveyed SAE on attention outputs too."""
    url, engine = worlds.copy(worlds.stocked)
    with transaction(engine) as session:
        demo = session.scalars(select(Sae).where(Sae.name == "demo")).one()
        heads = add_attention_sae(session, Library(demo.model_id, demo.id, "demo", demo.d_sae))
        add_attention(session, Library(demo.model_id, heads, "heads", 40))
    return url


def _strange(worlds: Worlds) -> World:
    url, engine = worlds.copy(worlds.stocked)
    inference = FakeInference()
    inference.answers["/attention"] = said_by_strangers(TOKENS)
    return World(worlds.serve(url, inference), add_strange(engine))


def _empty(worlds: Worlds) -> World:
    return World(worlds.serve(worlds.copy(worlds.bare)[0], FakeInference()))


def _no_inference(worlds: Worlds) -> World:
    inference = FakeInference()
    inference.away = True
    return World(worlds.serve(_with_heads(worlds), inference))


def _no_database(worlds: Worlds) -> World:
    return World(worlds.serve(NO_DATABASE, FakeInference()))


def _nobody(worlds: Worlds) -> World:
    return World(worlds["administrator"].address)


def _read_only(worlds: Worlds) -> World:
    there = worlds["administrator"]
    return World(there.address, cookie=_logged_in(there.address, there.names["secret"], True))


def _ended(worlds: Worlds) -> World:
    there = worlds["administrator"]
    cookie = _logged_in(there.address, there.names["other secret"])
    headers = {"X-API-Key": there.names["other secret"]}
    own = httpx.get(f"{there.address}/api/v1/sessions", headers=headers).json()["items"][0]["id"]
    httpx.delete(f"{there.address}/api/v1/sessions/{own}", headers=headers).raise_for_status()
    return World(there.address, cookie=cookie)


def _administrator(worlds: Worlds) -> World:
    url, engine = worlds.copy(worlds.stocked)
    with transaction(engine) as session:
        secret = create_key(session, "boss", ["admin"], SECRET)
        other = create_key(session, "W" * 119, ["read"], SECRET, requests_per_minute=6000)
        key = str(session.scalar(text("SELECT id FROM api_keys WHERE name <> 'boss'")))
    address = worlds.serve(url, answering(), **CLOSED)
    names = {"key": key, "secret": secret, "other secret": other}
    return World(address, names, _logged_in(address, secret))


_MAKERS: dict[str, Callable[[Worlds], World]] = {
    "library": _library,
    "strange": _strange,
    "empty": _empty,
    "no inference": _no_inference,
    "no database": _no_database,
    "nobody": _nobody,
    "session that ended": _ended,
    "read only": _read_only,
    "administrator": _administrator,
}


def _logged_in(address: str, key: str, read_only: bool = False) -> dict[str, Any]:
    """The cookie of a session of ``key``, as a browser is given it."""
    with httpx.Client(base_url=address) as client:
        browser, _ = log_in(client, key, read_only=read_only)
    return {"name": browser.name, "value": browser.cookie, "url": address, "httpOnly": True}


def answering() -> FakeInference:
    """An inference server that knows an answer to everything."""
    inference = FakeInference()
    lane = [3.0, 0, 0, 6.0, 0, 0, 1.0]
    inference.answers = {"/activations": reading(chosen=[lane]), "/contrast": contrasted()}
    inference.answers["/attention"] = LENS_ANSWER
    inference.answers["/graph-steering"] = steered()
    inference.answers["/graph-heads"] = heads_answer()
    inference.answers["/graph-score"] = score_answer(0, 1, 0, 3)
    inference.lines = written
    return inference


def add_strange(engine: Engine) -> dict[str, str]:
    """SAEs that lack something, a paused queue, runs that are not as they should be, and names and
    texts that try to act; ids of what was made."""
    with transaction(engine) as session:
        raw = add_library(session, "unindexed", 1)
        session.get_one(Sae, raw.sae).index = None
        add_library(session, "unlabelled", 4)
        unscored = add_library(session, "unscored", 4)
        add_explanation(session, unscored, 1, "thrones", "Words for thrones.")
        change_queue(session, "gpu", paused=True)
        hostile = add_hostile(session)
        add_to_set(session, hostile.library.name, NAME)
        odd_list = session.scalar(
            text("SELECT id FROM feature_lists WHERE name = :name"), {"name": f"list of {NAME}"}
        )
        odd = Run(kind="train", queue="gpu", state="failed", error=HOSTILE)
        odd.spec = {"kind": "train", "name": HOSTILE, "site": HOSTILE}
        plugin = Run(kind="of a plugin", queue="gpu", state="succeeded", result={"saes": "none"})
        plugin.spec = {"kind": "of a plugin", "name": ["no", "text"], "deep": {"a": [1]}}
        plugin.progress = {"done": "many", "stage": 5}
        partly = Run(kind="explain", queue="interp", state="succeeded")
        partly.spec = {"kind": "explain", "sae": "demo"}
        partly.result = {"failed": {"3": HOSTILE}, "failures": {"3": HOSTILE}}
        session.add_all((odd, plugin, partly))
        session.flush()
        odd_task = uuid.uuid4()
        keep_task(session, odd_task, [hostile.library.sae], task_result(NAME, "", HOSTILE))
        odd_result = uuid.uuid4()
        keep_result(session, odd_result, odd.id, hostile.library.sae, odd_benchmark(HOSTILE))
        half = Run(kind="benchmark", queue="gpu", state="succeeded")
        half.spec = {"kind": "benchmark", "saes": ["demo"]}
        half.result = {
            "results": [],
            "not_measured": [
                {"sae": NAME, "benchmark": HOSTILE, "reason": HOSTILE, "advice": None}
            ],
        }
        session.add(half)
        session.flush()
        tell(session, odd.id, "log", {"message": HOSTILE, HOSTILE: HOSTILE})
        odd_concept = uuid.uuid4()
        concept = concept_result(HOSTILE[:100], text=HOSTILE)
        keep_concept(session, odd_concept, hostile.library.sae, concept)
        odd_circuit = uuid.uuid4()
        circuit = circuit_of_strangers(HOSTILE)
        store_circuit(session, odd_circuit, HOSTILE, HOSTILE, circuit, None)
        odd_graph = uuid.uuid4()
        add_graph(
            session,
            [(hostile.library.sae, WORDS)],
            id=odd_graph,
            name=HOSTILE[:100],
            model=WORDS,
            prompt=WORDS,
            graph=texas(texts=TOKENS[1:7], goals=(HOSTILE, WORDS)),
        )
        add_odd_heads(session, hostile.library)
        ids: dict[str, uuid.UUID] = {
            "odd_circuit": odd_circuit,
            "odd_graph": odd_graph,
            "odd_concept": odd_concept,
            "odd_list": odd_list,
            "odd": odd.id,
            "odd_task": odd_task,
            "odd_result": odd_result,
            "half_measured": half.id,
            "plugin": plugin.id,
            "partly": partly.id,
            "score": hostile.score,
            "explanation": hostile.explanation,
        }
    return {name: str(value) for name, value in ids.items()}


def add_odd_heads(session: Session, library: Library) -> None:
    """A surveyed SAE at the heads of a model of strangers, and one on the stream before it."""
    for name, site in ((ODD_HEADS, HEADS_SITE), (ODD_STREAM, STREAM_SITE)):
        sae = add_attention_sae(session, library, name, site)
        own = Library(library.model, sae, name, 40)
        for index in (0, 1, 3, 7, 11):
            session.get_one(Feature, (sae, index)).label = WORDS
        if site == HEADS_SITE:
            add_attention(session, own)


@contextmanager
def worlds_over(postgres: str, stocked: str, bare: str, home: Path) -> Iterator[Worlds]:
    worlds = Worlds(postgres, stocked, bare, home)
    with worlds.stack:
        yield worlds
