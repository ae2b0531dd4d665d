"""A page of somebody else's, open in the browser of somebody who is logged in, changes nothing.

It lies on another port of this machine, so that the browser sends our cookie along.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest

from tests.pages.entering import MakeKey, enter
from tests.support.other_site import other_site

pytestmark = pytest.mark.integration

_SUBMIT = "<script>document.forms[0].submit()</script>"


def form(action: str, **fields: str) -> str:
    """Posts itself."""
    hidden = "".join(f'<input name="{name}" value="{value}">' for name, value in fields.items())
    return f'<form method="post" action="{action}">{hidden}</form>{_SUBMIT}'


@pytest.fixture(scope="module")
def evil() -> Iterator[str]:
    """A page that is what its query says."""
    with other_site(unquote) as address:
        yield address


@pytest.fixture(scope="module")
def nowhere() -> Iterator[str]:
    """The same, whose origin is ``null``."""
    with other_site(unquote, "sandbox allow-forms allow-scripts") as address:
        yield address


@pytest.fixture
def logged_in(closed: str, make_key: MakeKey, browser: Any) -> Iterator[tuple[Any, str]]:
    """A page in the profile of somebody who may do everything, and the key."""
    key = make_key("admin", "boss")
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{closed}/login")
    enter(page, key)
    yield page, key
    context.close()


@pytest.mark.parametrize("where", ["evil", "nowhere"])
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/settings/keys", {"name": "theirs", "scope": "admin"}),
        ("/settings/keys", {"name": "theirs", "scope": "admin", "csrf": "0" * 64}),
        ("/logout", {}),
        ("/login", {"key": "mnsy_" + "a" * 38}),
        ("/saes/demo/delete", {"name": "demo"}),
    ],
)
def test_csrf(
    closed: str,
    logged_in: tuple[Any, str],
    path: str,
    fields: dict[str, str],
    where: str,
    request: pytest.FixtureRequest,
) -> None:
    page, key = logged_in
    theirs = request.getfixturevalue(where)
    with page.expect_response(lambda answer: answer.request.method == "POST") as posted:
        page.goto(f"{theirs}/?{quote(form(closed + path, **fields))}")
    sent = posted.value.request.all_headers()
    assert posted.value.url == closed + path and sent["origin"] == (
        theirs if where == "evil" else "null"
    )
    # Without an origin a browser leaves the cookie out: then nobody is known at all.
    assert ("cookie" in sent) is (where == "evil")
    assert posted.value.status == 403 or (where == "nowhere" and posted.value.status == 401)
    page.goto(f"{closed}/settings/keys")
    assert page.url == f"{closed}/settings/keys", "the session goes on"
    assert "theirs" not in page.locator("main").inner_text()
    sae = httpx.get(f"{closed}/api/v1/saes/demo", headers={"X-API-Key": key})
    assert sae.status_code == 200


def test_scripts_of_another_page_do_not_get_in(
    closed: str, evil: str, logged_in: tuple[Any, str]
) -> None:
    page, key = logged_in
    page.goto(f"{evil}/?<p>")
    call = """async ([url, how]) => {
      try { return (await fetch(url, { method: "POST", credentials: "include", ...how })).status; }
      catch { return "refused"; }
    }"""
    url = f"{closed}/api/v1/lists"
    for how in (
        {"mode": "no-cors", "body": '{"name": "theirs"}'},
        {"headers": {"Content-Type": "application/json"}, "body": '{"name": "theirs"}'},
        {"headers": {"X-CSRF-Token": "0" * 64}, "body": '{"name": "theirs"}'},
    ):
        assert page.evaluate(call, [url, how]) in (0, "refused")
    by_key = {"X-API-Key": key, "Origin": evil}
    names = [each["name"] for each in httpx.get(url, headers=by_key).json()["items"]]
    assert "theirs" not in names
    # Who shows the key itself needs neither origin nor token.
    made = httpx.post(url, json={"name": "by key"}, headers=by_key)
    assert made.status_code == 201


@pytest.mark.parametrize("wanted", ["//{}", "/\\{}", "http://{}", "javascript:alert(1)"])
def test_open_redirect_refused(
    closed: str, evil: str, make_key: MakeKey, browser: Any, wanted: str
) -> None:
    context = browser.new_context()
    page = context.new_page()
    query = httpx.QueryParams({"next": wanted.format(evil.partition("//")[2])})
    page.goto(f"{closed}/login?{query}")
    enter(page, make_key())
    assert page.url == f"{closed}/"
    context.close()
