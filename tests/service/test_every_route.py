"""Every route: without a key, with each scope alone, on another key's things, 60 at a time.

Routes are taken from the app itself.  A new one needs nothing here where it follows the rule (GET
asks for ``read``, the rest for ``run`` and for the owner); what differs is said in
``tests.support.every_route``.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine, text

from monosemy.interp.judge_test.result import RoleTest
from service.app import create_app
from service.benchmarks.repository import keep_result
from service.circuits.repository import store_circuit
from service.concepts.repository import keep_concept
from service.database.comparison_tables import Comparison
from service.database.session import make_engine, transaction
from service.database.tables import Run, Sae
from service.edge.routing import Router, scopes_of
from service.judge_tests.repository import keep_test
from service.keys.service import SCOPES, allows
from service.saes.repository import find_sae
from service.settings import Settings
from service.tasks.repository import keep_task
from tests.support.benchmark_rows import result as benchmark_result
from tests.support.circuit_rows import made_up
from tests.support.concept_rows import concept_result
from tests.support.every_route import ADDS, FILES, MISSING, Address, every_route
from tests.support.gathered_rows import add_beside
from tests.support.graph_rows import add_graph
from tests.support.keys import fresh_key
from tests.support.library_rows import add_explanation, add_library
from tests.support.planted_index import random_text
from tests.support.task_rows import task_result
from tests.support.whole_api import served

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SECRET = "a-secret-of-thirty-two-characters"
API = "/api/v1"
BROKEN = {"content": b'{"', "headers": {"Content-Type": "application/json"}}
OWN_PAGE = {"Origin": "http://127.0.0.1:8420"}
"""Forms for anybody, the login's, come from our own pages alone."""
AT_ONCE = 60
SHARED = 12
HEALTH_SECONDS = 10.0


@dataclass
class World:
    """An API that asks for keys; ``maker``'s things, and keys by what they are for."""

    app: FastAPI
    client: TestClient
    engine: Engine
    keys: dict[str, str]
    routes: list[Address] = field(default_factory=list)

    def call(self, method: str, path: str, key: str | None, **sent: Any) -> httpx.Response:
        named = {"X-API-Key": self.keys[key]} if key else {}
        headers = {**OWN_PAGE, **sent.pop("headers", {}), **named}
        return self.client.request(method, path, headers=headers, **sent)

    def made(self, path: str, **sent: Any) -> Any:
        answer = self.call("POST", API + path, "maker", **sent)
        assert answer.is_success, answer.text
        return answer.json()

    def things(self, state: str = "queued") -> dict[str, str | Callable[[], str]]:
        """Something new of ``maker``'s for every parameter of a path, once it is asked for.  No SAE
        is of a set before."""
        with transaction(self.engine) as session:
            session.execute(text("UPDATE saes SET config = config - 'set'"))
        return {
            **MISSING,
            "name": "gpu",
            "sae": "demo",
            "list": self._list,
            "tag": self._tag,
            "run_id": lambda: self._run(state),
            "upload": lambda: self.made("/saes/uploads", files=FILES)["id"],
            "explanation": self._explanation,
            "comparison": self._comparison,
            "task": self._task,
            "result": self._result,
            "concept": self._concept,
            "circuit": self._circuit,
            "graph": self._graph,
            "judge_test": self._judge_test,
            "session_id": self._session,
            "sitting": self._sitting,
            "set": self._set,
        }

    def _set(self) -> str:
        with transaction(self.engine) as session:
            sae = find_sae(session, "demo")[0]
            sae.config = {**sae.config, "set": {"name": "a set", "place": 0, "size": 1}}
        return "a set"

    def _list(self) -> str:
        made = self.made("/lists", json={"name": f"list {uuid.uuid4().hex}"})
        self.made(f"/lists/{made['id']}/entries", json={"entries": [{"sae": "demo", "feature": 3}]})
        return str(made["id"])

    def _tag(self) -> str:
        self.made("/saes/demo/features/3/tags", json={"tags": ["theirs"]})
        return "theirs"

    def _run(self, state: str) -> str:
        made = self.made("/runs", json={"kind": "train", "name": "theirs"})
        with transaction(self.engine) as session:
            session.get_one(Run, uuid.UUID(made["id"])).state = state
        return str(made["id"])

    def _explanation(self) -> str:
        body = {"text": f"It is about {uuid.uuid4().hex}."}
        return str(self.made("/saes/demo/features/3/explanations", json=body)["id"])

    def _sitting(self) -> str:
        path = f"/explanations/{self._explanation()}/sittings"
        sitting = self.made(path, json={"positives": 2, "negatives": 2})["id"]
        answer = {"json": {"answer": True}}
        self.call("PUT", f"{API}/sittings/{sitting}/answers/1", "maker", **answer)
        return str(sitting)

    def _session(self) -> str:
        began = self.client.post(f"{API}/sessions", json={"key": self.keys["maker"]})
        self.client.cookies.clear()
        return str(began.json()["id"])

    def _judge_test(self) -> str:
        test = RoleTest("detecting", 0.9, 0.8, 1.0, 80, 0, 0.5, 0.3)
        with transaction(self.engine) as session:
            keep_test(session, "a" * 16, test, "http://judge.test/v1", "m", "detection v1")
        return "a" * 16

    def _result(self) -> str:
        run, made = uuid.UUID(self._run("succeeded")), uuid.uuid4()
        with transaction(self.engine) as session:
            keep_result(session, made, run, find_sae(session, "demo")[0].id, benchmark_result())
        return str(made)

    def _circuit(self) -> str:
        made = uuid.UUID(self._run("succeeded"))
        with transaction(self.engine) as session:
            owner = session.get_one(Run, made).created_by
            store_circuit(session, made, f"a circuit {made}", "host", made_up(bare=True), owner)
        return str(made)

    def _graph(self) -> str:
        made = uuid.UUID(self._run("succeeded"))
        with transaction(self.engine) as session:
            owner = session.get_one(Run, made).created_by
            add_graph(session, id=made, name=f"a graph {made}", owner=owner)
        return str(made)

    def _concept(self) -> str:
        made = uuid.UUID(self._run("succeeded"))
        with transaction(self.engine) as session:
            sae = find_sae(session, "demo")[0].id
            keep_concept(session, made, sae, concept_result(f"a concept {made}"))
        return str(made)

    def _task(self) -> str:
        made = uuid.UUID(self._run("succeeded"))
        with transaction(self.engine) as session:
            keep_task(session, made, [], task_result())
        return str(made)

    def _comparison(self) -> str:
        with transaction(self.engine) as session:
            session.execute(text("DELETE FROM comparisons"))
            ids = dict(session.execute(text("SELECT name, id FROM saes")).tuples().all())
            owner = session.execute(text("SELECT id FROM api_keys WHERE name = 'maker'")).scalar()
            made = Comparison(
                id=uuid.uuid4(),
                sae_a=ids["demo"],
                sae_b=ids["other"],
                by="decoder",
                method="mutual",
                summary={},
                created_by=owner,
            )
            session.add(made)
            return str(made.id)


def keys_of(engine: Engine) -> dict[str, str]:
    scopes = {**{scope: scope for scope in SCOPES}, "maker": "run", "other": "run"}
    with transaction(engine) as session:
        return {name: fresh_key(session, name, [scope], SECRET) for name, scope in scopes.items()}


@pytest.fixture(scope="module")
def asked(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        home=tmp_path_factory.mktemp("home"),
        database_url=database_url,
        redis_url=None,
        inference_url="http://inference.test",
        log_level="ERROR",
        require_keys=True,
        secret=SecretStr(SECRET),
    )


@pytest.fixture(scope="module")
def world(asked: Settings) -> Iterator[World]:
    engine = make_engine(str(asked.database_url))
    keys = keys_of(engine)
    with transaction(engine) as session:
        for name in ("demo", "other"):
            library = add_library(session, name, features=8)
            add_explanation(session, library, 3, "kings", "Words for kings.", 0.7)
        add_beside(session, "demo")
        owner = session.execute(text("SELECT id FROM api_keys WHERE name = 'maker'")).scalar()
        path = random_text().write(asked.artifacts)
        for sae in session.query(Sae):
            sae.created_by = owner
            sae.index = {**(sae.index or {}), "path": path}
    away = httpx.MockTransport(lambda request: httpx.Response(503))
    app = create_app(asked, away)
    with TestClient(app, base_url="http://127.0.0.1:8420") as client:
        yield World(app, client, engine, keys, every_route(app))
    engine.dispose()


def slug(answer: httpx.Response) -> str:
    if "problem" not in answer.headers.get("content-type", ""):
        return ""
    return str(answer.json()["type"]).rpartition(":")[2]


def test_every_route_asks_for_what_it_should(world: World) -> None:
    wrong = {
        (*each.name, str(scopes_of(each.route)))
        for each in world.routes
        if not set(scopes_of(each.route)) <= {"read", each.needed}
        or (each.needed is not None and each.needed not in scopes_of(each.route))
    }
    assert not wrong
    known = {each.name for each in world.routes}
    assert known >= ADDS


def test_a_route_that_does_not_say_who_may_call_it_cannot_be_made() -> None:
    router = Router()
    with pytest.raises(TypeError, match="does not say who may call it"):
        router.get("/open")(lambda: None)


def test_without_a_key_nothing_is_read_of_a_request(world: World) -> None:
    for each in world.routes:
        for path in (each.path(MISSING), each.path(MISSING) + "?nonsense=1"):
            for key in ({}, {"X-API-Key": "mnsy_wrong"}, {"Authorization": "Basic eDp5"}):
                headers = {**BROKEN["headers"], **OWN_PAGE, **key}
                answer = world.client.request(
                    each.method, path, headers=headers, content=BROKEN["content"]
                )
                if each.needed is None:
                    assert answer.status_code not in (401, 403), each
                else:
                    assert (answer.status_code, slug(answer)) == (401, "unauthenticated"), each


@pytest.mark.parametrize("scope", SCOPES)
def test_each_scope_alone_opens_what_it_should(world: World, scope: str) -> None:
    """Names of nothing and broken bodies: what passes is refused for that, and changes nothing."""
    for each in world.routes:
        answer = world.call(each.method, each.path(MISSING), scope, **BROKEN)
        if each.needed is None or allows([scope], each.needed):
            assert answer.status_code not in (401, 403), (each, answer.text)
        else:
            assert (answer.status_code, slug(answer)) == (403, "missing-scope"), each


STATES = {
    ("POST", "/runs/{run_id}/retry"): "failed",
    ("DELETE", "/runs/{run_id}"): "failed",
    ("POST", "/runs/{run_id}/delete"): "failed",
}


def test_another_keys_things_are_left_alone(world: World) -> None:
    for each in world.routes:
        if not each.writes or each.needed not in ("read", "run"):
            continue
        state = STATES.get(each.name, "queued")
        for caller in ("other", "maker", "admin"):
            path = each.path(world.things(state))
            answer = world.call(each.method, path, caller, **each.sent())
            if caller == "other" and each.name not in ADDS:
                assert (answer.status_code, slug(answer)) == (403, "not-the-owner"), (
                    each,
                    answer.text,
                )
            else:
                assert answer.is_success, (each, caller, answer.text)
        with transaction(world.engine) as session:
            for table in ("runs", "uploads"):
                session.execute(text(f"DELETE FROM {table}"))
        # There are at most so many at a time.
        shutil.rmtree(world.app.state.context.settings.artifacts / "uploads", ignore_errors=True)


def test_another_keys_things_may_be_read(world: World) -> None:
    for each in world.routes:
        if not each.writes and each.needed in ("read", "infer", None):
            answer = world.call(
                each.method, each.path(world.things("failed")), "other", **each.sent()
            )
            assert answer.status_code not in (401, 403), (each, answer.text)


def test_sixty_at_a_time_beside_a_health_check(asked: Settings, world: World) -> None:
    """Sixty calls that share out a few routes among them, until every route has had its share."""
    routes = in_order(world.routes)
    rush_all(
        asked, world, [routes[start : start + SHARED] for start in range(0, len(routes), SHARED)]
    )


@pytest.mark.campaign
def test_sixty_of_each_route_beside_a_health_check(asked: Settings, world: World) -> None:
    rush_all(asked, world, [[each] for each in in_order(world.routes)])


def in_order(routes: list[Address]) -> list[Address]:
    """What deletes comes last."""
    return sorted(routes, key=lambda each: each.method == "DELETE")


def rush_all(asked: Settings, world: World, groups: list[list[Address]]) -> None:
    """Whatever the calls answer, none fails inside, and health is told meanwhile."""
    away = httpx.MockTransport(lambda request: httpx.Response(503))
    things = {  # a run that nobody can take up again, or its events would not end
        name: value() if callable(value) else value
        for name, value in world.things("succeeded").items()
    }
    headers = {"X-API-Key": world.keys["admin"]}

    async def call(client: httpx.AsyncClient, each: Address) -> httpx.Response:
        sent = each.sent()
        try:
            return await client.request(each.method, each.path(things), **sent)
        except (httpx.ReadError, httpx.WriteError):
            # Refused before the body was read: the server may hang up on whoever still sends it.
            assert "files" in sent, each
            return httpx.Response(409)

    async def rush(client: httpx.AsyncClient, routes: list[Address]) -> None:
        calls = [
            call(client, each)
            for each, _ in zip(itertools.cycle(routes), range(AT_ONCE), strict=False)
        ]
        under_way = asyncio.gather(*calls)
        await asyncio.sleep(0)
        began = time.monotonic()
        health = await client.get("/healthz")
        seconds = time.monotonic() - began
        assert health.status_code == 200 and seconds < HEALTH_SECONDS, routes
        failed = [answer for answer in await under_way if answer.status_code >= 500]
        assert {answer.status_code for answer in failed} <= {503}, [each.text for each in failed]

    async def run(address: str) -> None:
        # No connection is kept so long that the server closes it while it is taken again.
        limits = httpx.Limits(max_connections=AT_ONCE + 10, keepalive_expiry=1.0)
        async with httpx.AsyncClient(
            base_url=address, headers=headers, limits=limits, timeout=60, trust_env=False
        ) as client:
            for routes in groups:
                await rush(client, routes)

    with served(create_app(asked, away)) as address:
        asyncio.run(run(address))
