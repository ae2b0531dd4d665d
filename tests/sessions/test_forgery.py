"""Forged requests: what a page of another origin can make a logged-in browser send, changes
nothing; and a key in a header needs neither origin nor token, and makes the cookie unseen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from service.app import create_app
from service.database.session import transaction
from service.edge.origin import READING_METHODS
from service.settings import Settings
from tests.support.every_route import MISSING, every_route
from tests.support.logged_in import API, Browser, log_in, slug

pytestmark = pytest.mark.integration

MakeKey = Callable[..., str]
LISTS = f"{API}/lists"
NEW = {"name": "made"}


@pytest.fixture
def browser(client: TestClient, make_key: MakeKey) -> Browser:
    return log_in(client, make_key("admin"))[0]


@pytest.fixture
def lists(engine: Engine) -> Callable[[], int]:
    def count() -> int:
        with transaction(engine) as session:
            return int(session.scalar(text("SELECT count(*) FROM feature_lists")) or 0)

    return count


FORGED: dict[str, dict[str, str | None]] = {
    "another site": {"Origin": "https://evil.example"},
    "another port": {"Origin": "http://127.0.0.1:8888"},
    "no port": {"Origin": "http://127.0.0.1"},
    "another scheme": {"Origin": "https://127.0.0.1:8420"},
    "another name of this machine": {"Origin": "http://localhost:8420"},
    "hidden": {"Origin": "null"},
    "empty": {"Origin": ""},
    "nothing told": {"Origin": None},
    "cross-site, no Origin": {"Origin": None, "Sec-Fetch-Site": "cross-site"},
    "same-site, no Origin": {"Origin": None, "Sec-Fetch-Site": "same-site"},
    "by the address bar": {"Origin": None, "Sec-Fetch-Site": "none"},
    "contradictory": {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
}


@pytest.mark.parametrize("headers", FORGED.values(), ids=FORGED)
def test_no_other_page_changes_anything(
    browser: Browser, lists: Callable[[], int], headers: dict[str, str | None]
) -> None:
    """Even with the right token."""
    refused = browser.send("POST", LISTS, json=NEW, headers=headers)
    assert (refused.status_code, slug(refused)) == (403, "other-origin")
    assert "http://127.0.0.1:8420" in refused.json()["detail"]
    assert lists() == 0


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": None, "Sec-Fetch-Site": "same-origin"}], ids=["Origin", "Sec-Fetch"]
)
def test_our_own_page_does(
    browser: Browser, lists: Callable[[], int], headers: dict[str, str | None]
) -> None:
    assert browser.send("POST", LISTS, json=NEW, headers=headers).status_code == 201
    assert lists() == 1


def test_a_change_shows_the_token_of_its_session(
    browser: Browser, client: TestClient, make_key: MakeKey, lists: Callable[[], int]
) -> None:
    other, _ = log_in(client, make_key("admin", name="other"))
    # Of the same key, but of another session.
    twin, _ = log_in(client, make_key("admin", name="twin"))
    wrong = [None, "", "x", browser.csrf[:-1], browser.csrf + "0", browser.csrf.upper(), "é" * 64]
    for token in (*wrong, other.csrf, twin.csrf, browser.cookie, browser.id):
        sent = None if token is None else token.encode()
        refused = browser.send("POST", LISTS, json=NEW, headers={"X-CSRF-Token": sent})
        assert (refused.status_code, slug(refused)) == (403, "csrf-token"), token
        assert browser.csrf not in refused.text
    assert (
        "X-CSRF-Token"
        in browser.send("POST", LISTS, json=NEW, headers={"X-CSRF-Token": None}).json()["detail"]
    )
    # In a body of JSON, or of a form that the route does not take, it is not looked for.
    for sent in ({"json": {**NEW, "csrf": browser.csrf}}, {"data": {"csrf": browser.csrf}}):
        refused = browser.send("POST", LISTS, headers={"X-CSRF-Token": None}, **sent)
        assert slug(refused) == "csrf-token"
    assert lists() == 0


def test_the_token_of_the_session_before_is_not_taken(
    client: TestClient, make_key: MakeKey
) -> None:
    """Of the same key and the same browser: another session, another token."""
    key = make_key("admin")
    before, now = log_in(client, key)[0], log_in(client, key)[0]
    assert before.csrf != now.csrf
    old = now.send("POST", LISTS, json=NEW, headers={"X-CSRF-Token": before.csrf})
    assert slug(old) == "csrf-token"
    assert now.send("POST", LISTS, json=NEW).status_code == 201


def test_every_route_that_may_change_something_asks_for_both(browser: Browser) -> None:
    """Taken from the app: a new route is among them by itself."""
    routes = [
        each
        for each in every_route(browser.client.app)  # type: ignore[attr-defined]
        if each.method not in READING_METHODS and each.needed is not None
    ]
    assert len(routes) > 20
    for each in routes:
        path = each.path(MISSING)
        foreign = browser.send(each.method, path, headers={"Origin": "http://127.0.0.1:1"})
        assert (foreign.status_code, slug(foreign)) == (403, "other-origin"), each
        bare = browser.send(each.method, path, headers={"X-CSRF-Token": None})
        assert (bare.status_code, slug(bare)) == (403, "csrf-token"), each


def test_reading_needs_neither(browser: Browser) -> None:
    plain: dict[str, str | None] = {"Origin": None, "X-CSRF-Token": None}
    assert browser.send("GET", LISTS, headers=plain).status_code == 200
    # A link from elsewhere; what the other page may see of the answer is CORS' business.
    foreign = browser.send("GET", LISTS, headers={**plain, "Origin": "https://evil.example"})
    assert foreign.status_code == 200
    assert "access-control-allow-origin" not in foreign.headers


@pytest.mark.parametrize("header", ["X-API-Key", "Authorization"])
def test_a_key_in_a_header_needs_neither_and_hides_the_cookie(
    client: TestClient, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    reader = make_key("read", name="reader")
    browser, _ = log_in(client, make_key("admin", name="mighty"))

    def bearing(key: str) -> dict[str, str | None]:
        shown = f"Bearer {key}" if header == "Authorization" else key
        return {header: shown, "X-CSRF-Token": None, "Origin": "https://notebooks.example"}

    admin = make_key("admin", name="other")
    assert browser.send("POST", LISTS, json=NEW, headers=bearing(admin)).status_code == 201

    def never(*_: Any) -> None:
        raise AssertionError("the cookie was looked at")

    monkeypatch.setattr("service.keys.authorize.token_of", never)
    monkeypatch.setattr("service.keys.authorize.sessions.recognise", never)
    # What the session may do, the key may not; and a wrong key is not made good by a cookie.
    refused = browser.send("POST", LISTS, json={"name": "b"}, headers=bearing(reader))
    assert (refused.status_code, slug(refused)) == (403, "missing-scope")
    for wrong in ("mnsy_wrong", reader[:-1]):
        assert browser.send("GET", LISTS, headers=bearing(wrong)).status_code == 401


@pytest.mark.parametrize("origins", ["*", "https://notebooks.example"])
def test_other_origins_that_may_ask_get_no_cookies(
    settings: Settings, make_key: MakeKey, origins: str
) -> None:
    app = create_app(settings.model_copy(update={"cors_origins": origins}))
    there = "https://notebooks.example"
    with TestClient(app, base_url="http://127.0.0.1:8420") as client:
        key = make_key("run")
        browser, _ = log_in(client, key)
        foreign = browser.send("POST", LISTS, json=NEW, headers={"Origin": there})
        assert (foreign.status_code, slug(foreign)) == (403, "other-origin")
        asked = client.options(
            LISTS,
            headers={
                "Origin": there,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "x-csrf-token",
            },
        )
        assert asked.status_code == 400, "no other page may send the token"
        assert "access-control-allow-credentials" not in asked.headers
        login = client.post(f"{API}/sessions", json={"key": key}, headers={"Origin": there})
        assert slug(login) == "other-origin"
        made = client.post(LISTS, json=NEW, headers={"Origin": there, "X-API-Key": key})
        assert made.status_code == 201, "as ever"
        assert made.headers["access-control-allow-origin"] in ("*", there)
        assert "access-control-allow-credentials" not in made.headers


# ------------------------------------------------------------------ open mode
@pytest.fixture
def free(settings: Settings) -> FastAPI:
    return create_app(
        settings.model_copy(update={"require_keys": False, "cors_origins": "http://localhost:8888"})
    )


@pytest.fixture
def local(free: FastAPI, make_key: MakeKey) -> Iterator[TestClient]:
    """Without keys, for this machine; the database is empty."""
    with TestClient(free, base_url="http://127.0.0.1:8420", client=("127.0.0.1", 5)) as client:
        yield client


@pytest.mark.parametrize(
    ("headers", "sort"),
    [
        ({"Origin": "http://127.0.0.1:8888"}, "other-origin"),
        ({"Origin": "http://localhost:8420"}, "other-origin"),
        ({"Origin": "https://127.0.0.1:8420"}, "other-origin"),
        ({"Origin": "http://127.0.0.1"}, "other-origin"),
        ({"Sec-Fetch-Site": "cross-site"}, "other-origin"),
        ({"Sec-Fetch-Site": "same-site"}, "other-origin"),
        ({"Origin": "https://evil.example"}, "loopback-only"),
        ({"Origin": "null"}, "loopback-only"),
        ({"Host": "evil.example"}, "loopback-only"),
        ({"X-Forwarded-For": "10.0.0.9"}, "loopback-only"),
    ],
)
def test_in_open_mode_no_other_page_changes_anything(
    local: TestClient, lists: Callable[[], int], headers: dict[str, str], sort: str
) -> None:
    refused = local.post(LISTS, json=NEW, headers=headers)
    assert (refused.status_code, slug(refused)) == (403, sort)
    assert lists() == 0


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:8420"},
        {"Origin": "http://localhost:8420", "Host": "localhost:8420"},
        {"Origin": "http://[::1]:8420", "Host": "[::1]:8420"},
        {"Origin": "http://localhost:8888", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_in_open_mode_programs_our_own_page_and_named_ones_do(
    local: TestClient, lists: Callable[[], int], headers: dict[str, str]
) -> None:
    assert local.post(LISTS, json=NEW, headers=headers).status_code == 201
    assert lists() == 1


def test_in_open_mode_any_page_of_this_machine_may_read(local: TestClient) -> None:
    assert local.get(LISTS, headers={"Origin": "http://127.0.0.1:8888"}).status_code == 200


def test_in_open_mode_a_star_names_nobody(settings: Settings, make_key: MakeKey) -> None:
    """It lets in who has a key, and here nobody has one."""
    star = settings.model_copy(update={"require_keys": False, "cors_origins": "*"})
    with TestClient(
        create_app(star), base_url="http://127.0.0.1:8420", client=("127.0.0.1", 5)
    ) as client:
        refused = client.post(LISTS, json=NEW, headers={"Origin": "http://127.0.0.1:8888"})
        assert slug(refused) == "other-origin"
