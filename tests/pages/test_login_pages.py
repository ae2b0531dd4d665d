"""Logging in and out, keys and sessions, as pages, with and without JavaScript."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from service.database.session import transaction
from tests.pages.entering import MakeKey, enter, press
from tests.support.browser import holds, scrolls_sideways, violations
from tests.support.campaign import wider
from tests.support.patience import SOON

pytestmark = pytest.mark.integration

HTML = {"Accept": "text/html,application/xhtml+xml"}
REFUSED = ["Failed to load resource: the server responded with a status of 4"]


@pytest.mark.parametrize("script", [True, False])
def test_login_leads_back_and_logout_ends_it(
    closed: str, make_key: MakeKey, open_page: Any, script: bool
) -> None:
    key = make_key()
    page = open_page(f"{closed}/models?colour=red", java_script_enabled=script, allowed=REFUSED)
    assert page.url.startswith(f"{closed}/login?next=")
    enter(page, "mnsy_wrong")
    field = page.get_by_label("API key")
    assert field.get_attribute("aria-invalid") == "true" and field.input_value() == ""
    assert "unknown, revoked or expired" in page.get_by_role("alert").inner_text()
    enter(page, key)
    assert page.url == f"{closed}/models?colour=red"
    assert page.get_by_role("link", name="laptop").is_visible()
    (cookie,) = page.context.cookies()
    assert cookie["name"] == "monosemy_session" and cookie["httpOnly"]
    assert key not in page.content() and cookie["value"] not in page.content()
    press(page.get_by_role("button", name="Log out"))
    assert page.url == f"{closed}/login" and not page.context.cookies()
    page.goto(f"{closed}/models")
    assert "/login?next=%2Fmodels" in page.url
    if script:
        assert page.evaluate("localStorage.length") == 0


def test_what_is_written_outlives_a_logout_elsewhere(
    closed: str, make_key: MakeKey, open_page: Any
) -> None:
    page = open_page(f"{closed}/login?next=/saes/demo/features/3", allowed=REFUSED)
    enter(page, make_key())
    page.get_by_label("Where does it fire?").fill("half a thought")
    page.context.clear_cookies()
    page.locator("#test-form").get_by_role("button", name="Read").click()
    out = page.locator("#logged-out")
    assert "mnsy_" not in page.locator("main").inner_text()
    press(out.get_by_role("link", name="Log in"))
    enter(page, make_key(name="again"))
    assert page.url == f"{closed}/saes/demo/features/3"
    holds(page.get_by_label("Where does it fire?"), "half a thought")
    page.context.clear_cookies()
    said = page.evaluate("fetch('/api/v1/saes').then(answer => answer.json())")["detail"]
    assert "log in" in said and "MONOSEMY_API_KEY" in said
    told = httpx.post(f"{closed}/runs/new", data={"text": "x"}, headers=HTML).text
    assert "You are logged out" in told and 'href="/login"' in told and "mnsy_" not in told


def test_a_revoked_key_ends_its_sessions(
    closed: str, make_key: MakeKey, open_page: Any, module_engine: Engine
) -> None:
    page = open_page(f"{closed}/login?next=/models", allowed=REFUSED)
    enter(page, make_key())
    assert page.url == f"{closed}/models"
    with transaction(module_engine) as session:
        session.execute(text("UPDATE api_keys SET revoked_at = now()"))
    page.goto(f"{closed}/models")
    assert "/login?next=" in page.url


def test_who_only_reads_is_told_what_is_missing(
    closed: str, make_key: MakeKey, open_page: Any
) -> None:
    page = open_page(f"{closed}/login?next=/settings/keys", allowed=REFUSED)
    enter(page, make_key("admin", "boss"), read_only=True)
    assert page.url == f"{closed}/settings/keys"
    assert page.get_by_role("link", name="boss (read only)").is_visible()
    assert "needs the scope admin" in page.locator("main").inner_text()
    assert page.locator("#name").count() == 0
    assert not violations(page)
    for path in ("/runs/new", "/saes/demo"):
        page.goto(closed + path)
        (title,) = {
            each.get_attribute("title") for each in page.locator("[title*='the scope']").all()
        }
        assert title.startswith("This session lacks the scope 'run', which your key has")


@pytest.mark.parametrize("script", [True, False])
def test_keys_are_made_and_revoked(
    closed: str, make_key: MakeKey, open_page: Any, script: bool
) -> None:
    page = open_page(
        f"{closed}/login?next=/settings/keys", java_script_enabled=script, allowed=REFUSED
    )
    enter(page, make_key("admin", "boss"))
    page.get_by_label("Name: who").fill("for <b>Ada</b>")
    page.get_by_label("infer:").check()
    page.get_by_label("Days until").fill("many")
    press(page.get_by_role("button", name="Make the key"))
    assert "whole number" in page.locator("#days-error").inner_text()
    holds(page.get_by_label("Name: who"), "for <b>Ada</b>")
    assert page.get_by_label("infer:").is_checked()
    page.get_by_label("Days until").fill("30")
    page.get_by_label("Requests a minute").fill("600")
    press(page.get_by_role("button", name="Make the key"))
    refused = page.locator("#name-error").inner_text()
    assert "/" in refused, "a name stands in addresses"
    page.get_by_label("Name: who").fill("boss")
    press(page.get_by_role("button", name="Make the key"))
    assert "already" in page.locator("#name-error").inner_text()
    page.get_by_label("Name: who").fill("Ada & co")
    press(page.get_by_role("button", name="Make the key"))
    made = page.locator("section pre").inner_text().strip()
    assert re.fullmatch(r"mnsy_[A-Za-z0-9]{38}", made)
    row = page.get_by_role("row").filter(has_text="Ada & co")
    assert "infer" in row.inner_text() and "600" in row.inner_text()
    assert httpx.get(f"{closed}/api/v1/runs", headers={"X-API-Key": made}).status_code == 200
    page.goto(f"{closed}/settings/keys")
    assert made not in page.content(), "it is shown once"

    press(row.get_by_role("link", name="Revoke"))
    assert "Ada & co" in page.get_by_role("heading", level=1).inner_text()
    press(page.get_by_role("link", name="Keep it"))
    assert page.url == f"{closed}/settings/keys"
    press(row.get_by_role("link", name="Revoke"))
    press(page.get_by_role("button", name="Revoke it"))
    assert page.url == f"{closed}/settings/keys"
    assert "revoked" in row.inner_text()
    assert httpx.get(f"{closed}/api/v1/runs", headers={"X-API-Key": made}).status_code == 401


def test_revoking_ones_own_key_logs_out(closed: str, make_key: MakeKey, open_page: Any) -> None:
    page = open_page(f"{closed}/login?next=/settings/keys", allowed=REFUSED)
    enter(page, make_key("admin", "boss"))
    press(page.get_by_role("link", name="Revoke"))
    assert "you are logged out" in page.locator("main").inner_text()
    press(page.get_by_role("button", name="Revoke it"))
    assert "/login?next=" in page.url


def test_sessions_are_seen_and_ended(closed: str, make_key: MakeKey, open_page: Any) -> None:
    key = make_key("run", "laptop")
    here = open_page(f"{closed}/login?next=/settings/keys", allowed=REFUSED)
    there = open_page(f"{closed}/login?next=/models", allowed=REFUSED)
    enter(here, key)
    enter(there, key, read_only=True)
    here.goto(f"{closed}/settings/keys")
    rows = here.locator("tbody tr")
    assert rows.count() == 2
    other = rows.filter(has_not_text="this one")
    assert "127.0.0.1" in other.inner_text() and "read" in other.inner_text()
    press(other.get_by_role("button", name="End"))
    assert here.url == f"{closed}/settings/keys" and rows.count() == 1
    there.goto(f"{closed}/models")
    assert "/login?next=" in there.url
    press(rows.get_by_role("button", name="End"))
    assert "/login?next=" in here.url and not here.context.cookies()


@pytest.mark.parametrize(
    ("scheme", "width"),
    [("dark", 390), *wider(("dark", 1440), ("light", 390), ("light", 1440))],
)
def test_axe_clean(closed: str, make_key: MakeKey, open_page: Any, scheme: str, width: int) -> None:
    """Every state: the forms, their errors, keys of all sorts, a new one, the question."""
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    page = open_page(f"{closed}/login", allowed=REFUSED, **options)
    faults: list[str] = []

    def look(state: str) -> None:
        faults.extend(f"{state}: {each}" for each in violations(page))
        faults.extend([f"{state}: wide"] * scrolls_sideways(page))

    look("login")
    enter(page, "mnsy_wrong")
    look("wrong key")
    key = make_key("admin", "boss", max_running=3, requests_per_minute=6000)
    make_key("read", "W" * 119)
    page.goto(f"{closed}/login?next=/settings/keys")
    enter(page, key)
    look("keys")
    page.get_by_label("Days until").fill("x")
    page.get_by_label("Name: who").fill("a/b")
    press(page.get_by_role("button", name="Make the key"))
    look("errors")
    page.get_by_label("Days until").fill("3")
    page.get_by_label("Name: who").fill("c")
    press(page.get_by_role("button", name="Make the key"))
    assert page.locator("section pre").is_visible()
    look("made")
    press(page.get_by_role("link", name="Revoke c,"))
    look("question")
    assert not faults, "\n".join(faults)


# ------------------------------------------------------------------ without a browser
def entries(html: str) -> list[str]:
    """What the navigation of a page leads to."""
    part = html.partition('<nav aria-label="Pages">')[2].partition("</nav>")[0]
    return re.findall(r'href="([^"]+)"', part)


def test_an_error_page_has_the_navigation_of_its_viewer(
    closed: str, make_key: MakeKey, module_engine: Engine
) -> None:
    """Whether a route was reached or not."""
    key, boss, slow = (
        make_key("run"),
        make_key("admin", "boss"),
        make_key("run", "slow", requests_per_minute=1),
    )

    @contextmanager
    def entered(key: str) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=closed, headers={**HTML, "Origin": closed}) as client:
            assert client.post("/login", data={"key": key}).status_code == 303
            yield client

    with entered(key) as mine, entered(boss) as theirs:
        usual, whole = entries(mine.get("/models").text), entries(theirs.get("/models").text)
        assert usual and whole
        for method, path, status in (
            ("GET", "/nothing-here", 404),
            ("GET", "/saes/none", 404),
            ("GET", "/runs?state=odd", 422),
            ("POST", "/models", 405),
            ("GET", "/saes/demo/features/11?view=sideways", 422),
        ):
            for client, wanted in ((mine, usual), (theirs, whole)):
                answer = client.request(method, path)
                assert answer.status_code == status, path
                assert entries(answer.text) == wanted and "Log out" in answer.text, path
        by_key = httpx.get(f"{closed}/nothing-here", headers={**HTML, "X-API-Key": key})
        assert entries(by_key.text) == usual and "Log out" not in by_key.text
        # A page of another origin that posts has nobody's navigation and nobody's token.
        theirs_ = mine.post("/nothing-here", headers={"Origin": "https://evil.example"})
        assert entries(theirs_.text) == [] and "Log out" not in theirs_.text
        with transaction(module_engine) as session:
            session.execute(text("UPDATE api_keys SET revoked_at = now() WHERE name = 'laptop'"))
        for headers in ({}, {"X-API-Key": key}, {"X-API-Key": "mnsy_wrong"}):
            gone = mine.get("/nothing-here", headers=headers)
            assert gone.status_code == 404 and entries(gone.text) == []
    held_up = [httpx.get(f"{closed}/x", headers={**HTML, "X-API-Key": slow}) for _ in range(3)]
    assert [each.status_code for each in held_up] == [404] * 3


def test_next_leads_to_pages_of_ours_alone(closed: str, make_key: MakeKey) -> None:
    key = make_key()
    for wanted, led in (
        ("/models?q=a%20b", "/models?q=a%20b"),
        ("https://evil.example", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ):
        with httpx.Client(base_url=closed, headers={**HTML, "Origin": closed}) as client:
            form = client.get("/login", params={"next": wanted}).text
            assert "evil" not in form and "javascript:" not in form
            answer = client.post("/login", data={"key": key, "next": wanted})
            assert (answer.status_code, answer.headers["location"]) == (303, led)


def test_the_form_of_another_page_logs_nobody_in_or_out(closed: str, make_key: MakeKey) -> None:
    key = make_key("admin")
    for origin in ("https://evil.example", "http://127.0.0.1:1", "null", None):
        told = {} if origin is None else {"Origin": origin}
        answer = httpx.post(f"{closed}/login", data={"key": key}, headers={**HTML, **told})
        assert answer.status_code == 403 and "set-cookie" not in answer.headers
        assert answer.headers["content-type"].startswith("text/html")
    with httpx.Client(base_url=closed, headers=HTML) as client:
        entered = client.post("/login", data={"key": key}, headers={"Origin": closed})
        assert entered.status_code == 303
        page = client.get("/settings/keys").text
        csrf = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
        assert csrf is not None
        for path, fields in (
            ("/logout", {}),
            ("/settings/keys", {"name": "theirs", "scope": "admin"}),
        ):
            for origin, token in ((closed, "x"), (closed, ""), ("null", csrf[1])):
                answer = client.post(
                    path, data={**fields, "csrf": token}, headers={"Origin": origin}
                )
                assert answer.status_code == 403, (path, origin)
        assert "theirs" not in client.get("/settings/keys").text
        out = client.post("/logout", data={"csrf": csrf[1]}, headers={"Origin": closed})
        assert (out.status_code, out.headers["location"]) == (303, "/login")
        assert out.headers["clear-site-data"] and not client.cookies


def test_logins_by_the_page_are_entered(
    closed: str, make_key: MakeKey, module_engine: Engine
) -> None:
    key = make_key()
    mine = uuid.uuid4().hex  # entries follow their answers, those of earlier tests too
    own = {**HTML, "Origin": closed, "X-Request-ID": mine}
    for sent, status in (("", 422), ("mnsy_wrong", 401), (key, 303)):
        assert httpx.post(f"{closed}/login", data={"key": sent}, headers=own).status_code == status
    deadline, entered = time.monotonic() + SOON, []
    query = text("SELECT path, status FROM audit_entries WHERE request_id = :mine ORDER BY id")
    while len(entered) < 2 and time.monotonic() < deadline:
        with transaction(module_engine) as session:
            entered = [tuple(row) for row in session.execute(query, {"mine": mine})]
        time.sleep(0.02)
    assert entered == [("/login", 401), ("/login", 303)]


def test_without_tls_from_another_machine_the_page_says_why(closed: str, make_key: MakeKey) -> None:
    there = {**HTML, "Host": "monosemy.example", "Origin": "http://monosemy.example"}
    page = httpx.get(f"{closed}/login", headers=there)
    assert page.status_code == 200 and "MONOSEMY_PUBLIC_URL" in page.text
    assert '<input id="key"' not in page.text
    sent = httpx.post(f"{closed}/login", data={"key": make_key()}, headers=there)
    assert sent.status_code == 403 and "set-cookie" not in sent.headers


def test_open_mode_needs_no_login(explorer: str) -> None:
    page = httpx.get(f"{explorer}/login", headers=HTML)
    assert page.status_code == 200 and "This machine only, no login needed" in page.text
    own = {**HTML, "Origin": explorer}
    assert httpx.post(f"{explorer}/login", data={"key": "x"}, headers=own).status_code == 409
    keys = httpx.get(f"{explorer}/settings/keys", headers=HTML)
    assert "asks for no keys" in keys.text and "Log out" not in keys.text
    # Without a secret none can be made: it is said before somebody fills the form in, and after.
    form = keys.text.split('id="new"')[1]
    assert "MONOSEMY_SECRET" in form and "disabled" in form.split("<button")[1].split(">")[0]
    made = httpx.post(f"{explorer}/settings/keys", data={"name": "x"}, headers=own)
    assert made.status_code == 422 and "MONOSEMY_SECRET" in made.text


def test_a_made_key_is_kept_by_no_cache(closed: str, make_key: MakeKey) -> None:
    headers = {**HTML, "X-API-Key": make_key("admin")}
    made = httpx.post(f"{closed}/settings/keys", data={"name": "x"}, headers=headers)
    assert made.status_code == 201 and made.headers["cache-control"] == "no-store"
    assert "mnsy_" in made.text
    missing = f"{closed}/settings/keys/00000000-0000-0000-0000-000000000000/revoke"
    assert httpx.get(missing, headers=headers).status_code == 404
    lesser = {**HTML, "X-API-Key": make_key("run", "lesser")}
    refused = httpx.post(f"{closed}/settings/keys", data={"name": "x"}, headers=lesser)
    assert refused.status_code == 403
