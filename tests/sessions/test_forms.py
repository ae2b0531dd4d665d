"""HTML forms, which have no headers of their own: the token stands in a field; and who looks at a
page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from fastapi import Form, Request
from fastapi.testclient import TestClient

from service.app import create_app
from service.edge.routing import Router, body_limit, form_post
from service.keys.authorize import CanRead, CanRun, ForAnybody
from service.pages.render import PAGE_ENDPOINT
from service.pages.viewer import viewer_of
from service.settings import Settings
from tests.support.every_route import MISSING, every_route
from tests.support.logged_in import Browser, log_in, slug

pytestmark = pytest.mark.integration

MakeKey = Callable[..., str]
router = Router()
LIMIT = 4096
MULTIPART = "multipart/form-data; boundary=b"
TOKEN_FIELD = b'--b\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n'


@router.post("/form", dependencies=[CanRun])
@form_post
@body_limit(lambda _: LIMIT)
def form(word: Annotated[str, Form()]) -> dict[str, str]:
    """The token is looked for before this runs, and the form can still be read."""
    return {"word": word}


@router.post("/raw", dependencies=[CanRun])
@form_post
async def raw(request: Request) -> dict[str, Any]:
    return {"fields": [name for name, _ in (await request.form()).multi_items()]}


@router.post("/unmarked", dependencies=[CanRun])
def unmarked(word: Annotated[str, Form()]) -> dict[str, str]:
    return {"word": word}


@router.post("/anybody", dependencies=[ForAnybody])
@form_post
def anybody(word: Annotated[str, Form()]) -> dict[str, str]:
    return {"word": word}


@router.api_route("/both", methods=["GET", "POST"], dependencies=[CanRead])
@form_post
def both() -> dict[str, str]:
    return {}


@router.get("/viewer", dependencies=[CanRead])
def viewer(request: Request) -> dict[str, Any]:
    return _shown(request)


@router.get("/stranger", dependencies=[ForAnybody])
def stranger(request: Request) -> dict[str, Any]:
    return _shown(request)


def _shown(request: Request) -> dict[str, Any]:
    seen = viewer_of(request)
    can = [scope for scope in ("read", "infer", "run", "admin") if seen.can(scope)]
    return {
        "open_mode": seen.open_mode,
        "scopes": seen.scopes,
        "csrf": seen.csrf,
        "key_name": seen.key_name,
        "read_only": seen.read_only,
        "can": can,
    }


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    app = create_app(settings)
    app.include_router(router)
    with TestClient(app, base_url="http://127.0.0.1:8420", client=("127.0.0.1", 5)) as client:
        yield client


@pytest.fixture
def browser(client: TestClient, make_key: MakeKey) -> Browser:
    return log_in(client, make_key("run", name="laptop"))[0]


NO_HEADER: dict[str, str | None] = {"X-CSRF-Token": None}


@pytest.mark.parametrize("multipart", [False, True])
def test_a_form_shows_its_token_in_a_field(browser: Browser, multipart: bool) -> None:
    fields = {"csrf": browser.csrf, "word": "ü & <b>"}
    sent: dict[str, Any] = {"data": fields}
    if multipart:
        sent = {"files": {name: (None, value) for name, value in fields.items()}}
    answer = browser.send("POST", "/form", headers=NO_HEADER, **sent)
    assert answer.json() == {"word": "ü & <b>"}
    read = browser.send("POST", "/raw", headers=NO_HEADER, **sent)
    assert read.json() == {"fields": ["csrf", "word"]}


def test_a_form_without_the_right_token_is_refused(
    browser: Browser, client: TestClient, make_key: MakeKey
) -> None:
    other, _ = log_in(client, make_key(name="other"))
    for token in (None, "", "x", other.csrf):
        fields = {"word": "x"} if token is None else {"word": "x", "csrf": token}
        for path in ("/form", "/raw", "/both"):
            refused = browser.send("POST", path, data=fields, headers=NO_HEADER)
            assert (refused.status_code, slug(refused)) == (403, "csrf-token"), (path, token)
    file = {"csrf": ("token.txt", browser.csrf.encode())}
    refused = browser.send("POST", "/form", files=file, data={"word": "x"}, headers=NO_HEADER)
    assert slug(refused) == "csrf-token", "a file is no field"
    # What is no form has no fields; a wrong header is not made good by the form.
    assert slug(browser.send("POST", "/raw", json={"csrf": browser.csrf}, headers=NO_HEADER)) == (
        "csrf-token"
    )
    wrong = {"X-CSRF-Token": "x"}
    fields = {"csrf": browser.csrf, "word": "x"}
    assert slug(browser.send("POST", "/form", data=fields, headers=wrong)) == "csrf-token"


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:8888", "null", None])
def test_a_form_of_another_page_is_refused_before_it_is_read(
    browser: Browser, origin: str | None
) -> None:
    headers = {**NO_HEADER, "Origin": origin}
    fields = {"csrf": browser.csrf, "word": "x"}
    for path in ("/form", "/raw", "/anybody", "/unmarked"):
        refused = browser.send("POST", path, data=fields, headers=headers)
        assert (refused.status_code, slug(refused)) == (403, "other-origin"), path


def test_a_form_for_anybody_comes_from_our_own_page(client: TestClient) -> None:
    own = {"Origin": "http://127.0.0.1:8420"}
    assert client.post("/anybody", data={"word": "x"}, headers=own).json() == {"word": "x"}
    assert client.post("/anybody", data={}, headers=own).status_code == 422
    for headers in ({}, {"Origin": "null"}, {"Sec-Fetch-Site": "none"}):
        refused = client.post("/anybody", data={"word": "x"}, headers=headers)
        assert (refused.status_code, slug(refused)) == (403, "other-origin")


def test_a_route_that_forgets_the_mark_takes_no_forms(browser: Browser) -> None:
    fields = {"csrf": browser.csrf, "word": "x"}
    assert slug(browser.send("POST", "/unmarked", data=fields, headers=NO_HEADER)) == "csrf-token"
    assert browser.send("POST", "/unmarked", data=fields).status_code == 200


NONSENSE = [
    (MULTIPART, b"--b\r\nnonsense"),
    (MULTIPART, b"nonsense"),
    ("multipart/form-data", b"x"),
    (MULTIPART, b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--"),
    (f"{MULTIPART}; charset=raw_unicode_escape", TOKEN_FIELD + b"\\ud800\r\n--b--\r\n"),
    (f"{MULTIPART}; charset=hex", TOKEN_FIELD + b"zz\r\n--b--\r\n"),
    ("application/x-www-form-urlencoded", b"\xff\xfe=%zz&csrf&&=;"),
    ("application/x-www-form-urlencoded", b"&".join([b"a=b"] * 1000)),
    ("nonsense", b"x"),
]


def test_every_form_of_a_page_shows_its_token_in_a_field(
    client: TestClient, make_key: MakeKey
) -> None:
    """Taken from the app: what a page posts needs no script."""
    browser, _ = log_in(client, make_key("admin"))
    forms = [
        each
        for each in every_route(client.app)  # type: ignore[arg-type]
        if hasattr(each.route.endpoint, PAGE_ENDPOINT) and each.writes and each.needed is not None
    ]
    assert len(forms) > 5
    for each in forms:
        path = each.path(MISSING)
        bare = browser.send("POST", path, data={"csrf": "x"}, headers=NO_HEADER)
        assert slug(bare) == "csrf-token", each
    for each in sorted(forms, key=lambda each: each.template == "/logout"):
        fields = {"csrf": browser.csrf}
        sent = browser.send("POST", each.path(MISSING), data=fields, headers=NO_HEADER)
        assert sent.status_code not in (401, 403), (each, sent.text)


def test_a_form_is_bounded_and_may_be_nonsense(browser: Browser) -> None:
    long = {"csrf": browser.csrf, "word": "x" * LIMIT}
    assert browser.send("POST", "/form", data=long, headers=NO_HEADER).status_code == 413

    def endless() -> Iterator[bytes]:
        for _ in range(3):
            yield b"x" * LIMIT

    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    headers = {**NO_HEADER, **kind}
    answer = browser.send("POST", "/form", content=endless(), headers=headers)
    assert answer.status_code == 413
    for kind_, content in NONSENSE:
        headers = {**NO_HEADER, "Content-Type": kind_}
        answer = browser.send("POST", "/form", content=content, headers=headers)
        assert answer.status_code in (400, 403, 422), (kind_, content, answer.text)
        assert slug(answer)


def test_without_a_session_no_token_is_asked_for(
    client: TestClient, make_key: MakeKey, settings: Settings
) -> None:
    key = make_key()
    by_key = client.post("/form", data={"word": "x"}, headers={"X-API-Key": key})
    assert by_key.json() == {"word": "x"}
    app = create_app(settings.model_copy(update={"require_keys": False}))
    app.include_router(router)
    with TestClient(app, base_url="http://127.0.0.1:8420", client=("127.0.0.1", 5)) as local:
        own = {"Origin": "http://127.0.0.1:8420"}
        assert local.post("/form", data={"word": "x"}, headers=own).json() == {"word": "x"}
        foreign = {"Origin": "http://127.0.0.1:8888"}
        assert local.post("/form", data={"word": "x"}, headers=foreign).status_code == 403


def test_a_mark_changes_nothing_for_reading(browser: Browser) -> None:
    plain: dict[str, str | None] = {"X-CSRF-Token": None, "Origin": None}
    assert browser.send("GET", "/both", headers=plain).status_code == 200
    assert browser.send("POST", "/both").status_code == 200


def test_who_looks(
    browser: Browser, client: TestClient, make_key: MakeKey, settings: Settings
) -> None:
    assert browser.send("GET", "/viewer").json() == {
        "open_mode": False,
        "scopes": ["run"],
        "csrf": browser.csrf,
        "key_name": "laptop",
        "read_only": False,
        "can": ["read", "infer", "run"],
    }
    narrow, _ = log_in(client, make_key("admin", name="boss"), read_only=True)
    seen = narrow.send("GET", "/viewer").json()
    assert (seen["key_name"], seen["scopes"], seen["read_only"]) == ("boss", ["read"], True)
    key = make_key("infer", name="program")
    seen = client.get("/viewer", headers={"X-API-Key": key}).json()
    assert (seen["key_name"], seen["csrf"], seen["can"]) == ("program", None, ["read", "infer"])
    seen = client.get("/stranger").json()
    assert (seen["open_mode"], seen["can"], seen["csrf"], seen["key_name"]) == (
        False, [], None, None,
    )  # fmt: skip
    app = create_app(settings.model_copy(update={"require_keys": False}))
    app.include_router(router)
    with TestClient(app, base_url="http://127.0.0.1:8420", client=("127.0.0.1", 5)) as local:
        seen = local.get("/viewer").json()
    assert seen["open_mode"] and not seen["read_only"] and len(seen["can"]) == 4
    assert seen["csrf"] is None and seen["key_name"] is None
