"""API keys: made, recognised, revoked, and what each may do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from monosemy.errors import MonosemyError, SpecError
from service.app import create_app
from service.database.session import transaction
from service.keys.service import (
    create_key,
    is_well_formed,
    list_keys,
    recognise,
    revoke_key,
)
from service.kit.errors import Conflict, Misconfigured, NotFound
from service.settings import Settings
from tests.support.keys import fresh_key

pytestmark = pytest.mark.integration

SECRET = "a-secret-of-thirty-two-characters"


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with transaction(engine) as session:
        session.execute(text("DELETE FROM api_keys"))
        yield session


def test_a_key_is_recognised_and_never_stored(session: Session) -> None:
    key = create_key(session, "laptop", ["read"], SECRET)
    assert key.startswith("mnsy_")
    assert is_well_formed(key)
    stored = recognise(session, key, SecretStr(SECRET))
    assert stored is not None
    assert stored.name == "laptop"
    row = session.execute(text("SELECT api_keys::text FROM api_keys")).scalar_one()
    assert key not in row
    assert key[11:] not in row


def test_keys_differ(session: Session) -> None:
    assert len({create_key(session, f"k{i}", ["read"], SECRET) for i in range(20)}) == 20


def test_wrong_keys_are_not_recognised(session: Session) -> None:
    key = create_key(session, "laptop", ["read"], SECRET)
    swapped = key[:10] + ("a" if key[10] != "a" else "b") + key[11:]
    for wrong in ("", "mnsy_", key[:-1], key + "0", swapped, key.upper(), "x" * len(key), "é" * 43):
        assert recognise(session, wrong, SECRET) is None
    assert recognise(session, key, SECRET + "x") is None


def test_a_mistyped_key_asks_no_database() -> None:
    """The checksum tells it: no session is needed to refuse it."""
    assert recognise(None, "mnsy_" + "a" * 38, SECRET) is None  # type: ignore[arg-type]


def test_revoked_and_expired_keys_end(session: Session) -> None:
    key = create_key(session, "laptop", ["run"], SECRET)
    revoked = revoke_key(session, "laptop")
    assert revoked.revoked_at is not None
    assert recognise(session, key, SECRET) is None
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    assert recognise(session, create_key(session, "old", ["run"], SECRET, past), SECRET) is None
    assert {entry.name for entry in list_keys(session)} == {"laptop", "old"}


def test_revoking_needs_exactly_one(session: Session) -> None:
    create_key(session, "twin", ["read"], SECRET)
    second = create_key(session, "other", ["read"], SECRET)
    # As they could be made before names were held to be free.
    session.execute(text("UPDATE api_keys SET name = 'twin'"))
    with pytest.raises(Conflict, match="2 keys"):
        revoke_key(session, "twin")
    with pytest.raises(NotFound, match="'nobody'"):
        revoke_key(session, "nobody")
    assert revoke_key(session, second[:11]).prefix == second[:11]


def test_a_name_is_taken_until_its_key_is_revoked(session: Session) -> None:
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    create_key(session, "laptop", ["read"], SECRET)
    create_key(session, "old", ["read"], SECRET, past)
    create_key(session, "caf\u00e9", ["read"], SECRET)
    for name in ("laptop", "old", "cafe\u0301"):
        with pytest.raises(Conflict, match="Revoke it") as refused:
            create_key(session, name, ["admin"], SECRET)
        assert refused.value.code == "name-taken"
    create_key(session, "Laptop", ["read"], SECRET)
    revoke_key(session, "laptop")
    create_key(session, "laptop", ["read"], SECRET)


def test_of_two_keys_of_one_name_at_once_one_is_made(engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(text("DELETE FROM api_keys"))

    def make(_: int) -> str | None:
        try:
            with transaction(engine) as session:
                return create_key(session, "raced", ["read"], SECRET)
        except Conflict:
            return None

    with ThreadPoolExecutor(4) as pool:
        made = [key for key in pool.map(make, range(8)) if key]
    assert len(made) == 1


@pytest.mark.parametrize(
    ("name", "scopes", "secret", "message"),
    [
        ("", ["read"], SECRET, "name: .*no name of a key"),
        ("k", [], SECRET, "scopes: no scope"),
        ("k", ["write"], SECRET, "read, infer, run, admin"),
        ("k", ["read"], None, "MONOSEMY_SECRET"),
        ("k", ["read"], "short", "at least 16"),
    ],
)
def test_keys_that_cannot_be_made(session: Session, name, scopes, secret, message) -> None:
    kind = SpecError if secret == SECRET else Misconfigured
    with pytest.raises(kind, match=message):
        create_key(session, name, scopes, secret)


def test_last_use_is_noted_once_a_minute(session: Session) -> None:
    key = create_key(session, "k", ["read"], SECRET)
    recognise(session, key, SECRET)
    first = session.execute(text("SELECT last_used_at, xmin FROM api_keys")).one()
    recognise(session, key, SECRET)
    assert session.execute(text("SELECT last_used_at, xmin FROM api_keys")).one() == first
    assert first[0] is not None


@pytest.fixture
def guarded(database_url: str, tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(
        home=tmp_path,
        database_url=database_url,
        redis_url=None,
        inference_url=None,
        require_keys=True,
        secret=SecretStr(SECRET),
        host="0.0.0.0",
        log_level="WARNING",
    )
    with TestClient(
        create_app(settings), base_url="http://api.example", client=("10.0.0.9", 1)
    ) as client:
        yield client


SPEC = {"kind": "train", "name": "guarded"}


@pytest.mark.parametrize(
    ("scopes", "reads", "runs"),
    [(["read"], 200, 403), (["run"], 200, 201), (["admin"], 200, 201), (["read", "run"], 200, 201)],
)
def test_scopes(guarded: TestClient, engine: Engine, scopes, reads: int, runs: int) -> None:
    with transaction(engine) as session:
        key = fresh_key(session, "k", scopes, SECRET)
    headers = {"Authorization": f"Bearer {key}"}
    assert guarded.get("/api/v1/runs", headers=headers).status_code == reads
    assert guarded.get("/api/v1/runs", headers={"X-API-Key": key}).status_code == reads
    answer = guarded.post("/api/v1/runs", json=SPEC, headers=headers)
    assert answer.status_code == runs
    if runs == 403:
        assert answer.json()["type"] == "urn:monosemy:problem:missing-scope"


def test_every_route_but_health_and_docs_asks_for_a_key(guarded: TestClient) -> None:
    open_paths = {"/api/v1/healthz", "/api/v1/readyz"}
    login = ("post", "/api/v1/sessions")
    document = guarded.get("/api/v1/openapi.json").json()
    tried = 0
    for path, operations in document["paths"].items():
        url = path.replace("{run_id}", "00000000-0000-0000-0000-000000000000")
        url = url.replace("{sae}", "x").replace("{index}", "1")
        for method in operations:
            answer = guarded.request(method, url, json={} if method == "post" else None)
            if path in open_paths or (method, path) == login:
                assert answer.status_code != 401
                continue
            tried += 1
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"] == "application/problem+json"
    assert tried >= 14
    assert guarded.get("/healthz").status_code == 200
    assert guarded.get("/metrics").status_code == 401


def test_a_revoked_key_is_refused_at_once(guarded: TestClient, engine: Engine) -> None:
    with transaction(engine) as session:
        key = fresh_key(session, "brief", ["read"], SECRET)
    headers = {"Authorization": f"Bearer {key}"}
    assert guarded.get("/api/v1/saes", headers=headers).status_code == 200
    with transaction(engine) as session:
        revoke_key(session, key[:11])
    assert guarded.get("/api/v1/saes", headers=headers).status_code == 401


def test_keys_need_a_secret_to_start(tmp_path: Path) -> None:
    with pytest.raises(MonosemyError, match="MONOSEMY_SECRET"):
        create_app(Settings(home=tmp_path, require_keys=True, secret=None))
