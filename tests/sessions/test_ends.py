"""What ends a session or narrows it: its key, time without use, age; streams end with it."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from service.app import create_app
from service.database.session import transaction
from service.database.tables import Run
from service.keys import watch
from service.keys.service import revoke_key
from service.sessions.service import in_both, is_read_only
from service.settings import Settings
from tests.support.logged_in import API, Browser, age, log_in, slug
from tests.support.served import served

pytestmark = pytest.mark.integration

MakeKey = Callable[..., str]


def reads(browser: Browser) -> int:
    return browser.send("GET", f"{API}/runs").status_code


def test_a_revoked_key_ends_its_sessions(
    client: TestClient, make_key: MakeKey, engine: Engine
) -> None:
    key, other = make_key(name="a"), make_key(name="b")
    browsers = [log_in(client, each)[0] for each in (key, key, other)]
    assert [reads(each) for each in browsers] == [200, 200, 200]
    with transaction(engine) as session:
        revoke_key(session, key[:11])
    assert [reads(each) for each in browsers] == [401, 401, 200]
    ended = browsers[0].send("GET", f"{API}/runs")
    assert "log in again" in ended.json()["detail"]


def test_a_key_that_expires_ends_its_sessions(
    client: TestClient, make_key: MakeKey, engine: Engine
) -> None:
    browser, _ = log_in(client, make_key())
    with transaction(engine) as session:
        session.execute(text("UPDATE api_keys SET expires_at = now() - interval '1 second'"))
    assert reads(browser) == 401


def test_sessions_go_with_the_row_of_their_key(
    client: TestClient, make_key: MakeKey, engine: Engine
) -> None:
    browser, _ = log_in(client, make_key())
    with transaction(engine) as session:
        session.execute(text("DELETE FROM api_keys"))
        assert session.scalar(text("SELECT count(*) FROM browser_sessions")) == 0
    assert reads(browser) == 401


@pytest.mark.parametrize(
    ("created", "used", "status"),
    [
        ("11 hours", "11 hours", 200),
        ("13 hours", "13 hours", 401),
        ("6 days 23 hours", "11 hours", 200),
        ("6 days 23 hours", "13 hours", 401),
        ("7 days 1 minute", "1 minute", 401),
    ],
)
def test_time_ends_it(
    client: TestClient, make_key: MakeKey, engine: Engine, created: str, used: str, status: int
) -> None:
    browser, _ = log_in(client, make_key())
    age(engine, browser, created, used)
    assert reads(browser) == status


def test_use_is_noted_once_a_minute_and_keeps_it_alive(
    client: TestClient, make_key: MakeKey, engine: Engine
) -> None:
    browser, _ = log_in(client, make_key())

    def row() -> Any:
        with transaction(engine) as session:
            return session.execute(
                text(
                    "SELECT last_used_at, xmin::text, now() - last_used_at < interval '1 minute'"
                    " AS fresh FROM browser_sessions"
                )
            ).one()

    first = row()
    reads(browser)
    assert row()[:2] == first[:2], "a read is no write"
    age(engine, browser, "11 hours", "11 hours")
    assert not row().fresh
    reads(browser)
    assert row().fresh
    with transaction(engine) as session:
        used = session.scalar(text("SELECT last_used_at FROM api_keys"))
    assert used is not None


def test_a_read_only_session_of_a_mighty_key(client: TestClient, make_key: MakeKey) -> None:
    browser, answer = log_in(client, make_key("admin"), read_only=True)
    assert answer.json()["scopes"] == ["read"]
    assert reads(browser) == 200
    for method, path, body in (
        ("POST", "/lists", {"name": "x"}),
        ("POST", "/keys", {"name": "x"}),
        ("POST", "/inference/tokenize", {"sae": "demo", "text": "x"}),
    ):
        refused = browser.send(method, f"{API}{path}", json=body)
        assert (refused.status_code, slug(refused)) == (403, "missing-scope"), path
        assert "this session of the key" in refused.json()["detail"]
    assert browser.send("GET", f"{API}/audit").status_code == 403


def test_an_owner_is_asked_by_what_the_session_may(client: TestClient, make_key: MakeKey) -> None:
    """``admin`` ends everybody's sessions; a session of such a key that only reads does not."""
    admin, other = make_key("admin"), make_key(name="other")
    narrow, theirs = log_in(client, admin, read_only=True)[0], log_in(client, other)[0]
    path = f"{API}/sessions/{theirs.id}"
    assert slug(narrow.send("DELETE", path)) == "not-the-owner"
    full, _ = log_in(client, admin)
    assert full.send("DELETE", path).status_code == 204


def test_a_key_that_is_narrowed_narrows_its_sessions(
    client: TestClient, make_key: MakeKey, engine: Engine
) -> None:
    browser, _ = log_in(client, make_key("admin"))
    assert browser.send("GET", f"{API}/keys").status_code == 200
    with transaction(engine) as session:
        session.execute(text("""UPDATE api_keys SET scopes = '["read"]'"""))
    assert browser.send("GET", f"{API}/keys").status_code == 403
    assert reads(browser) == 200
    with transaction(engine) as session:  # what is given back, was the session's before
        session.execute(text("""UPDATE api_keys SET scopes = '["admin"]'"""))
    assert browser.send("GET", f"{API}/keys").status_code == 200


def test_a_key_that_is_widened_does_not_widen_its_sessions(
    client: TestClient, make_key: MakeKey, engine: Engine
) -> None:
    browser, _ = log_in(client, make_key("run"))
    with transaction(engine) as session:
        session.execute(text("""UPDATE api_keys SET scopes = '["admin"]'"""))
    assert browser.send("GET", f"{API}/keys").status_code == 403
    assert browser.send("POST", f"{API}/lists", json={"name": "x"}).status_code == 201


@pytest.mark.parametrize(
    ("key", "session", "both"),
    [
        (["run"], ["run"], ("run",)),
        (["admin"], ["read"], ("read",)),
        (["read"], ["admin"], ("read",)),
        (["run"], ["infer"], ("infer",)),
        (["read", "run"], ["read", "run"], ("read", "run")),
        (["read", "admin"], ["infer"], ("read", "infer")),
        ([], ["read"], ()),
    ],
)
def test_what_both_allow(key: list[str], session: list[str], both: tuple[str, ...]) -> None:
    assert in_both(key, session) == in_both(session, key) == both


def test_what_is_read_only() -> None:
    assert is_read_only(["read"]) and is_read_only([])
    assert not is_read_only(["infer"]) and not is_read_only(["read", "admin"])


def test_the_rate_of_the_key_is_that_of_its_sessions(client: TestClient, make_key: MakeKey) -> None:
    """Counted by the key, whichever way it comes; without Redis nobody is held up."""
    asked: list[tuple[object, int]] = []
    rates = client.app.state.context.rates  # type: ignore[attr-defined]
    take = rates.take

    def noting(caller: object, per_minute: int) -> Any:
        asked.append((caller, per_minute))
        return take(caller, per_minute)

    rates.take = noting
    key = make_key(requests_per_minute=90)
    browser, _ = log_in(client, key)
    reads(browser)
    client.get(f"{API}/runs", headers={"X-API-Key": key})
    (login, _), by_session, by_key = asked
    assert login == "login:127.0.0.1"
    assert by_session == by_key and by_key[1] == 90


@pytest.mark.parametrize("how", ["revoke", "log out"])
def test_a_stream_ends_with_its_session(
    settings: Settings,
    make_key: MakeKey,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    monkeypatch.setattr(watch, "EVERY_SECONDS", 0.1)
    key = make_key()
    run = uuid.uuid4()
    with transaction(engine) as session:
        session.add(Run(id=run, kind="train", queue="gpu", spec={}, state="running"))
    with (
        served(create_app(settings)) as address,
        httpx.Client(base_url=address, timeout=60, trust_env=False) as client,
    ):
        browser, _ = log_in(client, key)
        headers = {"Cookie": f"{browser.name}={browser.cookie}"}
        lines: list[str] = []
        ended = False
        with (
            contextlib.suppress(httpx.ReadError),
            client.stream("GET", f"{API}/runs/{run}/events", headers=headers) as stream,
        ):
            assert stream.status_code == 200
            if how == "revoke":
                with transaction(engine) as session:
                    revoke_key(session, key[:11])
            else:
                with httpx.Client(base_url=address, trust_env=False) as beside:
                    browser.client = beside
                    out = browser.send("DELETE", f"{API}/sessions/current")
                    assert out.status_code == 204
            began = time.monotonic()
            for line in stream.iter_lines():
                lines.append(line)
                assert time.monotonic() - began < 60
            ended = True
    assert ended and any("has ended" in line for line in lines), lines
