"""A browser logs in and out: the cookie, what is stored, what is refused, what is entered."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from service.app import create_app
from service.cli.main import app as command
from service.database.session import transaction
from service.retention.rows import ended_sessions
from service.sessions.login import LOGINS_PER_MINUTE
from service.settings import Settings
from service.stack.valkey import EmbeddedValkey
from tests.support.logged_in import API, age, cookie_of, log_in, slug

pytestmark = pytest.mark.integration

MakeKey = Callable[..., str]
SESSIONS = f"{API}/sessions"


def stored(engine: Engine) -> list[dict[str, Any]]:
    with transaction(engine) as session:
        return [
            dict(row._mapping)
            for row in session.execute(text("SELECT * FROM browser_sessions ORDER BY created_at"))
        ]


def test_a_key_is_traded_for_a_cookie(
    client: TestClient, make_key: MakeKey, engine: Engine
) -> None:
    key = make_key("run")
    browser, answer = log_in(client, key)
    made, cookie = answer.json(), cookie_of(answer)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", cookie.value)
    assert cookie.key == "monosemy_session" and cookie["httponly"] and cookie["path"] == "/"
    assert cookie["samesite"].lower() == "lax" and not cookie["secure"] and not cookie["domain"]
    assert int(cookie["max-age"]) == 7 * 24 * 3600
    assert made["scopes"] == ["run"] and made["current"] and made["client"] == "127.0.0.1"
    assert made["created_at"] < made["idle_at"] < made["expires_at"]
    assert made["csrf_token"] and answer.headers["cache-control"] == "no-store"
    assert browser.send("GET", f"{API}/runs").status_code == 200
    (row,) = stored(engine)
    assert str(row["id"]) == made["id"]
    for secret in (cookie.value, made["csrf_token"], key):
        assert secret not in str(row)


def test_without_or_with_a_wrong_cookie_nothing_opens(
    client: TestClient, make_key: MakeKey
) -> None:
    browser, _ = log_in(client, make_key())
    other = ("B" if browser.cookie[0] == "A" else "A") + browser.cookie[1:]
    named = [("monosemy_session", value) for value in (other, "x", browser.csrf, browser.id)]
    named += [(name, browser.cookie) for name in ("__Host-monosemy", "session")]
    for cookie in (None, "", *(f"{name}={value}" for name, value in named)):
        answer = browser.send("GET", f"{API}/runs", headers={"Cookie": cookie})
        assert (answer.status_code, slug(answer)) == (401, "unauthenticated"), cookie


@pytest.mark.parametrize("key", ["x", "mnsy_wrong", "", "mnsy_" + "a" * 38, "k" * 201])
def test_a_wrong_key_opens_no_session(client: TestClient, make_key: MakeKey, key: str) -> None:
    make_key()
    answer = client.post(SESSIONS, json={"key": key})
    assert answer.status_code == (401 if 0 < len(key) <= 200 else 422)
    assert "set-cookie" not in answer.headers
    if len(key) > 1:
        assert key not in answer.text


def test_a_login_replaces_the_session_that_the_browser_has(
    client: TestClient, make_key: MakeKey, engine: Engine
) -> None:
    first, _ = log_in(client, make_key(name="a"))
    key = make_key(name="b")
    again = first.send("POST", SESSIONS, json={"key": key})
    assert again.status_code == 201
    assert [str(row["id"]) for row in stored(engine)] == [again.json()["id"]]
    assert first.send("GET", f"{API}/runs").status_code == 401


def test_logging_out_ends_it(client: TestClient, make_key: MakeKey, engine: Engine) -> None:
    key = make_key()
    browser, _ = log_in(client, key)
    other, _ = log_in(client, key)
    answer = browser.send("DELETE", f"{SESSIONS}/current")
    assert answer.status_code == 204
    assert answer.headers["clear-site-data"] == '"storage"'
    gone = cookie_of(answer)
    assert (gone.key, gone.value, gone["max-age"], gone["path"]) == (browser.name, "", "0", "/")
    assert browser.send("GET", f"{API}/runs").status_code == 401
    assert other.send("GET", f"{API}/runs").status_code == 200
    assert [str(row["id"]) for row in stored(engine)] == [other.id]
    # By the key there is no session to end.
    by_key = client.delete(f"{SESSIONS}/current", headers={"X-API-Key": key})
    assert by_key.status_code == 204 and "clear-site-data" not in by_key.headers


def test_sessions_of_ones_key_are_listed_and_ended(client: TestClient, make_key: MakeKey) -> None:
    mine, theirs, admin = make_key(name="a"), make_key(name="b"), make_key("admin", name="c")
    here, there = log_in(client, mine)[0], log_in(client, mine, read_only=True)[0]
    stranger = log_in(client, theirs)[0]
    listed = here.send("GET", SESSIONS).json()["items"]
    assert [(each["id"], each["current"]) for each in listed] == [
        (there.id, False),
        (here.id, True),
    ]
    assert [each["scopes"] for each in listed] == [["read"], ["run"]]
    assert not {"digest", "csrf_token", "key"} & listed[0].keys()
    by_key = client.get(SESSIONS, headers={"X-API-Key": mine}).json()["items"]
    assert [each["current"] for each in by_key] == [False, False]
    page = here.send("GET", SESSIONS, params={"limit": 1}).json()
    following = here.send("GET", SESSIONS, params={"limit": 1, "cursor": page["next_cursor"]})
    assert [each["id"] for each in following.json()["items"]] == [here.id]

    refused = here.send("DELETE", f"{SESSIONS}/{stranger.id}")
    assert (refused.status_code, slug(refused)) == (403, "not-the-owner")
    assert here.send("DELETE", f"{SESSIONS}/{there.id}").status_code == 204
    assert there.send("GET", f"{API}/runs").status_code == 401
    assert here.send("DELETE", f"{SESSIONS}/{uuid.uuid4()}").status_code == 404
    as_admin = client.delete(f"{SESSIONS}/{stranger.id}", headers={"X-API-Key": admin})
    assert as_admin.status_code == 204
    own = here.send("DELETE", f"{SESSIONS}/{here.id}")
    assert own.status_code == 204 and "clear-site-data" in own.headers


def test_open_mode_needs_no_login(settings: Settings) -> None:
    free = settings.model_copy(update={"require_keys": False})
    with TestClient(
        create_app(free), base_url="http://127.0.0.1:8420", client=("127.0.0.1", 5)
    ) as client:
        answer = client.post(SESSIONS, json={"key": "mnsy_x"})
        assert (answer.status_code, slug(answer)) == (409, "no-login-needed")
        assert "this machine only" in answer.json()["detail"]
        assert client.get(SESSIONS).json() == {"items": [], "next_cursor": None}
        assert client.delete(f"{SESSIONS}/current").status_code == 204


@pytest.mark.parametrize(
    ("base", "name", "secure"),
    [
        ("https://monosemy.example", "__Host-monosemy", True),
        ("https://127.0.0.1:8420", "__Host-monosemy", True),
        ("http://localhost:8420", "monosemy_session", False),
        ("http://[::1]:8420", "monosemy_session", False),
        ("http://monosemy.example", None, False),
        ("http://10.0.0.7:8420", None, False),
        ("http://localhost.evil.example", None, False),
    ],
)
def test_which_cookie_by_which_way(
    settings: Settings, make_key: MakeKey, engine: Engine, base: str, name: str | None, secure: bool
) -> None:
    key = make_key()
    with TestClient(create_app(settings), base_url=base, client=("10.0.0.9", 5)) as client:
        if name is None:
            answer = client.post(SESSIONS, json={"key": key}, headers={"Origin": base})
            assert (answer.status_code, slug(answer)) == (403, "insecure-login")
            assert "MONOSEMY_PUBLIC_URL" in answer.json()["detail"]
            assert stored(engine) == []
            return
        browser, answer = log_in(client, key)
        cookie = cookie_of(answer)
        assert (cookie.key, bool(cookie["secure"]), cookie["path"]) == (name, secure, "/")
        assert browser.send("POST", f"{API}/lists", json={"name": "x"}).status_code == 201


def test_a_cookie_of_another_way_opens_nothing(settings: Settings, make_key: MakeKey) -> None:
    """A cookie made without TLS is not taken by https, nor the other way round; and by plain http
    from another machine none is taken."""
    app = create_app(settings)
    ways = ("http://127.0.0.1:8420", "https://monosemy.example", "http://monosemy.example")
    names = ("monosemy_session", "__Host-monosemy", "__Secure-monosemy")
    with TestClient(app, base_url=ways[0]) as client:
        browser, _ = log_in(client, make_key())
        opened = set()
        for way in ways:
            for name in names:
                headers = {"Cookie": f"{name}={browser.cookie}"}
                if client.get(f"{way}{API}/runs", headers=headers).status_code == 200:
                    opened.add((way, name))
    assert opened == {(ways[0], names[0]), (ways[1], names[1])}


def test_logins_are_entered_whether_they_succeed_or_not(
    client: TestClient, make_key: MakeKey, engine: Engine
) -> None:
    key, wrong = make_key(), "mnsy_" + "a" * 38
    client.post(SESSIONS, json={"key": wrong})
    browser, _ = log_in(client, key)
    client.post(SESSIONS, json={"key": key}, headers={"Origin": "https://evil.example"})
    client.post(SESSIONS, json={"no": "key"})
    browser.send("DELETE", f"{SESSIONS}/current")
    with transaction(engine) as session:
        rows = session.execute(text("SELECT * FROM audit_entries ORDER BY id")).all()
    assert [(row.method, row.path, row.status, row.key_prefix) for row in rows] == [
        ("POST", SESSIONS, 401, None),
        ("POST", SESSIONS, 201, key[:11]),
        ("DELETE", f"{SESSIONS}/current", 204, key[:11]),
    ]
    assert {row.client for row in rows} == {"127.0.0.1"}
    for secret in (key, wrong, browser.cookie, browser.csrf):
        assert secret not in str(rows)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:8888"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_page_logs_nobody_in(
    client: TestClient, make_key: MakeKey, headers: dict[str, str]
) -> None:
    """Or somebody would work under the key of whoever made that page."""
    answer = client.post(SESSIONS, json={"key": make_key()}, headers=headers)
    assert (answer.status_code, slug(answer)) == (403, "other-origin")
    assert "set-cookie" not in answer.headers


def test_logins_of_an_address_are_limited(
    settings: Settings, make_key: MakeKey, tmp_path: Path, engine: Engine
) -> None:
    key = make_key()
    with EmbeddedValkey(tmp_path / "valkey") as valkey:
        app = create_app(settings.model_copy(update={"redis_url": valkey.url}))
        base = "http://127.0.0.1:8420"
        with (
            TestClient(app, base_url=base, client=("10.0.0.9", 5)) as one,
            TestClient(app, base_url=base, client=("2001:db8::1", 5)) as two,
            TestClient(app, base_url=base, client=("2001:db8::2", 5)) as near,
        ):

            def tries(client: TestClient) -> int:
                """How many wrong keys were looked at before it was too many."""
                for number in range(3 * LOGINS_PER_MINUTE):
                    answer = client.post(SESSIONS, json={"key": "mnsy_wrong"})
                    if answer.status_code == 429:
                        assert int(answer.headers["retry-after"]) >= 1
                        return number
                    assert answer.status_code == 401
                raise AssertionError("nobody was held up")

            assert LOGINS_PER_MINUTE // 4 <= tries(one) < 3 * LOGINS_PER_MINUTE
            # A good key does not help, other calls are not counted, other addresses are others.
            late = one.post(SESSIONS, json={"key": key})
            assert late.status_code in (201, 429)
            assert one.get(f"{API}/runs", headers={"X-API-Key": key}).status_code == 200
            assert tries(two) >= LOGINS_PER_MINUTE // 4
            # Whoever has one address of IPv6 has 2^64.
            assert tries(near) < LOGINS_PER_MINUTE // 4
    with transaction(engine) as session:
        statuses = set(session.scalars(text("SELECT status FROM audit_entries")))
    assert 429 not in statuses, "what is held up makes no log grow"


def test_what_ended_is_removed_at_logins_and_by_gc(
    client: TestClient,
    make_key: MakeKey,
    engine: Engine,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = make_key()
    idle, old, kept = (log_in(client, key)[0] for _ in range(3))
    age(engine, idle, "13 hours", "13 hours")
    age(engine, old, "8 days", "1 minute")
    assert ended_sessions(engine, remove=False) == 2
    monkeypatch.setenv("MONOSEMY_DATABASE_URL", str(settings.database_url))
    monkeypatch.setenv("MONOSEMY_HOME", str(settings.home))
    settings.artifacts.mkdir(exist_ok=True)
    told = CliRunner().invoke(command, ["gc", "--json"])
    assert told.exit_code == 0 and '"sessions": 2' in told.output
    assert len(stored(engine)) == 3
    assert CliRunner().invoke(command, ["gc", "--delete"]).exit_code == 0
    assert [str(row["id"]) for row in stored(engine)] == [kept.id]
    age(engine, kept, "13 hours", "13 hours")
    new, _ = log_in(client, key)
    assert [str(row["id"]) for row in stored(engine)] == [new.id]
