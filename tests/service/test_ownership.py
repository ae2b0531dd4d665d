"""Whose things are whose, beyond the calls that ``test_every_route`` makes: steps of pipelines,
priorities, runs that change an SAE, things of nobody, and what the migration fills in."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine, text

from service.app import create_app
from service.database.migrate import downgrade, migrate
from service.database.session import make_engine, transaction
from service.database.tables import Sae
from service.keys.authorize import Caller
from service.keys.ownership import check_owner
from service.kit.errors import Forbidden
from service.settings import Settings
from tests.support.keys import fresh_key
from tests.support.library_rows import Library, add_library

pytestmark = pytest.mark.integration

API = "/api/v1"
SECRET = "a-secret-of-thirty-two-characters"
TRAIN = {"kind": "train", "name": "once"}
PIPELINE = {"kind": "pipeline", "name": "several"}


@pytest.fixture
def keys(engine: Engine) -> dict[str, dict[str, str]]:
    with transaction(engine) as session:
        for table in ("runs", "saes", "models", "contexts", "documents", "api_keys"):
            session.execute(text(f"DELETE FROM {table}"))
        scopes = {"maker": "run", "other": "run", "admin": "admin"}
        return {
            name: {"X-API-Key": fresh_key(session, name, [scope], SECRET)}
            for name, scope in scopes.items()
        }


@pytest.fixture
def closed(settings: Settings, keys: Any) -> Iterator[TestClient]:
    asked = settings.model_copy(update={"require_keys": True, "secret": SecretStr(SECRET)})
    with TestClient(create_app(asked), base_url="http://127.0.0.1:8420") as client:
        yield client


@pytest.fixture
def sae(engine: Engine, keys: Any) -> Library:
    with transaction(engine) as session:
        library = add_library(session, "theirs", features=3)
        owner = session.execute(text("SELECT id FROM api_keys WHERE name = 'maker'")).scalar()
        session.get_one(Sae, library.sae).created_by = owner
        return library


KEY, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)


@pytest.mark.parametrize(
    ("caller", "owner", "may"),
    [
        (Caller(KEY, False), KEY, True),
        (Caller(KEY, False), str(KEY), True),
        (Caller(KEY, False), OTHER, False),
        (Caller(KEY, False), "local", False),
        (Caller(KEY, False), None, False),
        (Caller(KEY, True), OTHER, True),
        (Caller(KEY, True), None, True),
        (Caller(None, True), OTHER, True),
        (Caller(None, True), "local", True),
        (Caller(None, False), None, False),
    ],
)
def test_the_rule(caller: Caller, owner: Any, may: bool) -> None:
    if may:
        check_owner(caller, owner, "it")
        return
    with pytest.raises(Forbidden) as raised:
        check_owner(caller, owner, "it")
    assert raised.value.code == "not-the-owner"


def test_steps_of_a_pipeline_belong_to_its_submitter(closed: TestClient, keys: Any) -> None:
    made = closed.post(f"{API}/runs", json=PIPELINE, headers=keys["maker"]).json()
    step = made["children"][0]["id"]
    for run in (made["id"], step):
        for method, path, body in (
            ("POST", "/cancel", None),
            ("POST", "/retry", None),
            ("PATCH", "", {"priority": -3}),
            ("DELETE", "", None),
        ):
            address = f"{API}/runs/{run}{path}"
            answer = closed.request(method, address, json=body, headers=keys["other"])
            assert answer.status_code == 403, (method, path)
    family = closed.get(f"{API}/runs/{made['id']}", headers=keys["other"]).json()
    assert family["state"] == "queued" and family["priority"] == 0
    done = closed.post(f"{API}/runs/{step}/cancel", headers=keys["maker"])
    assert done.status_code == 200


def test_priorities_above_the_usual_are_for_administrators(closed: TestClient, keys: Any) -> None:
    for name, priority, status in (
        ("maker", 1, 403),
        ("maker", 0, 201),
        ("maker", -5, 201),
        ("admin", 1, 201),
    ):
        answer = closed.post(
            f"{API}/runs", params={"priority": priority}, json=TRAIN, headers=keys[name]
        )
        assert answer.status_code == status, (name, priority)
        if status == 403:
            assert answer.json()["type"].endswith("missing-scope")
    own = closed.post(f"{API}/runs", json=TRAIN, headers=keys["maker"]).json()["id"]
    for name, priority, status in (
        ("maker", 1, 403),
        ("maker", -7, 200),
        ("other", -9, 403),
        ("admin", 50, 200),
        ("maker", 0, 200),
    ):
        answer = closed.patch(f"{API}/runs/{own}", json={"priority": priority}, headers=keys[name])
        assert answer.status_code == status, (name, priority)


@pytest.mark.parametrize("kind", ["index", "evaluate"])
def test_what_replaces_something_of_an_sae_is_for_its_owner(
    closed: TestClient, keys: Any, sae: Library, kind: str
) -> None:
    for reference in ("theirs", str(sae.sae)):
        for name, status in (("other", 403), ("maker", 201), ("admin", 201)):
            spec = {"kind": kind, "sae": reference}
            answer = closed.post(f"{API}/runs", json=spec, headers=keys[name])
            assert answer.status_code == status, (name, answer.text)


def test_what_adds_to_an_sae_is_for_all(closed: TestClient, keys: Any, sae: Library) -> None:
    for spec in ({"kind": "explain", "sae": "theirs"}, {"kind": "score", "sae": "theirs"}):
        assert closed.post(f"{API}/runs", json=spec, headers=keys["other"]).status_code == 201


def test_a_tag_stays_whose_it_was(closed: TestClient, keys: Any, sae: Library) -> None:
    tags = f"{API}/saes/theirs/features/1/tags"
    for name in ("maker", "other"):
        assert closed.post(tags, json={"tags": ["king"]}, headers=keys[name]).status_code == 200
    assert closed.delete(f"{tags}/king", headers=keys["other"]).status_code == 403
    assert closed.delete(f"{tags}/none", headers=keys["other"]).status_code == 204
    assert closed.delete(f"{tags}/KING", headers=keys["maker"]).status_code == 204
    assert closed.get(tags, headers=keys["other"]).json() == {"items": []}


def test_what_was_made_in_open_mode_is_left_to_administrators(
    client: TestClient, closed: TestClient, keys: Any, sae: Library
) -> None:
    run = client.post(f"{API}/runs", json=TRAIN).json()["id"]
    explanations = f"{API}/saes/theirs/features/1/explanations"
    explanation = client.post(explanations, json={"text": "Said by nobody."}).json()["id"]
    listed = client.post(f"{API}/lists", json={"name": f"l{uuid.uuid4().hex}"}).json()["id"]
    client.post(f"{API}/saes/theirs/features/1/tags", json={"tags": ["nobodys"]})
    for method, path in (
        ("POST", f"/runs/{run}/cancel"),
        ("DELETE", f"/explanations/{explanation}"),
        ("DELETE", f"/lists/{listed}"),
        ("DELETE", "/saes/theirs/features/1/tags/nobodys"),
    ):
        for name in ("maker", "admin"):
            answer = closed.request(method, API + path, headers=keys[name])
            assert answer.is_success is (name == "admin"), (name, path, answer.text)


def test_open_mode_owns_everything(
    client: TestClient, closed: TestClient, keys: Any, sae: Library
) -> None:
    run = closed.post(f"{API}/runs", json=TRAIN, headers=keys["maker"]).json()["id"]
    assert client.patch(f"{API}/runs/{run}", json={"priority": 7}).status_code == 200
    assert client.post(f"{API}/runs/{run}/cancel").status_code == 200
    assert client.delete(f"{API}/runs/{run}").status_code == 204


def test_the_migration_fills_in_what_can_be_told(empty_database_url: str) -> None:
    migrate(empty_database_url)
    downgrade(empty_database_url, "0008")
    key, run, other = (uuid.uuid4() for _ in range(3))
    saes = [uuid.uuid4() for _ in range(3)]
    engine = make_engine(empty_database_url)
    with engine.begin() as connection:
        for statement in _OLD_ROWS:
            connection.execute(
                text(statement),
                {"key": key, "run": run, "other": other, "a": saes[0], "b": saes[1], "c": saes[2]},
            )
    migrate(empty_database_url)
    with engine.connect() as connection:
        owners = {
            table: dict(connection.execute(text(query)).tuples().all())
            for table, query in {
                "saes": "SELECT name, created_by FROM saes",
                "explanations": "SELECT text, created_by FROM explanations",
                "comparisons": "SELECT method, created_by FROM comparisons",
                "tags": "SELECT tag, created_by FROM feature_tags",
            }.items()
        }
    engine.dispose()
    assert owners == {
        "saes": {"a": key, "b": None, "c": None},
        "explanations": {"by run": key, "by hand": key, "by nobody": None, "odd": None},
        "comparisons": {"mutual": key},
        "tags": {"t": None},
    }
    assert downgrade(empty_database_url, "0008") == "0008"


_SAE = (
    "INSERT INTO saes (id, name, model_id, run_id, site, architecture, d_in, d_sae, path, config,"
    " provenance) SELECT :{0}, '{0}', id, {1}, 's', 'topk', 1, 1, 'p', '{{}}', '{{}}' FROM models"
)
_SAID = (
    "INSERT INTO explanations (id, sae_id, feature, run_id, explainer, key, text, label, judge,"
    " provenance) VALUES (gen_random_uuid(), :a, 0, {0}, 'x', '{1}', '{1}', '', '', {2})"
)
_OLD_ROWS = [
    "INSERT INTO api_keys (id, name, prefix, digest, scopes) VALUES (:key, 'k', 'p', 'd', '[]')",
    "INSERT INTO runs (id, kind, queue, spec, created_by)"
    " VALUES (:run, 'train', 'gpu', '{}', :key)",
    "INSERT INTO runs (id, kind, queue, spec) VALUES (:other, 'train', 'gpu', '{}')",
    "INSERT INTO models (id, name, spec, info, token_bytes)"
    " VALUES (gen_random_uuid(), 'm', '{}', '{}', '')",
    _SAE.format("a", ":run"),
    _SAE.format("b", ":other"),
    _SAE.format("c", "NULL"),
    _SAID.format(":run", "by run", "'{}'"),
    _SAID.format("NULL", "by hand", "jsonb_build_object('api_key', CAST(:key AS text))"),
    _SAID.format("NULL", "by nobody", "'{\"api_key\": null}'"),
    _SAID.format("NULL", "odd", "'[1, 2]'"),
    'INSERT INTO comparisons (id, sae_a, sae_b, "by", method, summary)'
    " VALUES (:run, :a, :b, 'decoder', 'mutual', '{}')",
    "INSERT INTO feature_tags (sae_id, feature, tag) VALUES (:a, 0, 't')",
]
