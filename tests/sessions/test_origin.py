"""Which origin is ours, which page a request comes from, and where a login may lead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.edge.origin import canonical, is_secure, own_origin, page_of, safe_next
from service.settings import Settings


def scope(scheme: str = "http", **headers: str) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "scheme": scheme, "headers": named}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://monosemy.example", "https://monosemy.example"),
        ("https://Monosemy.Example:443", "https://monosemy.example"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://localhost:8420", "http://localhost:8420"),
        ("http://[::1]:8420", "http://[::1]:8420"),
        ("null", None),
        ("", None),
        ("https://monosemy.example/", None),
        ("https://monosemy.example/path", None),
        ("https://user@monosemy.example", None),
        ("https://monosemy.example?x", None),
        ("file://", None),
        ("chrome-extension://abcdef", None),
        ("http://2130706433:8420", None),
        ("http://monosemy.example:99999", None),
    ],
)
def test_the_one_form_of_an_origin(text: str, origin: str | None) -> None:
    assert canonical(text) == origin


def test_our_origin_is_scheme_and_host_unless_it_is_said(settings: Settings) -> None:
    assert own_origin(settings, scope(host="127.0.0.1:8420")) == "http://127.0.0.1:8420"
    assert own_origin(settings, scope("https", host="A.example")) == "https://a.example"
    assert own_origin(settings, scope()) is None
    assert own_origin(settings, scope(host="a.example/x")) is None
    said = settings.model_copy(update={"public_url": "https://tools.example:8443/monosemy"})
    for each in (scope(host="127.0.0.1:8420"), scope("https", host="evil.example"), scope()):
        assert own_origin(said, each) == "https://tools.example:8443"
        assert is_secure(said, each)
    assert not is_secure(settings, scope(host="127.0.0.1:8420"))
    assert is_secure(settings, scope("https", host="a.example"))


OWN = {"host": "127.0.0.1:8420"}


@pytest.mark.parametrize(
    ("headers", "page"),
    [
        ({}, "untold"),
        ({"sec_fetch_site": "none"}, "untold"),
        ({"origin": "http://127.0.0.1:8420"}, "own"),
        ({"origin": "http://127.0.0.1:8420", "sec_fetch_site": "same-origin"}, "own"),
        ({"sec_fetch_site": "same-origin"}, "own"),
        ({"sec_fetch_site": "same-site"}, "other"),
        ({"sec_fetch_site": "cross-site"}, "other"),
        ({"sec_fetch_site": "Same-Origin"}, "other"),
        ({"origin": "null"}, "other"),
        ({"origin": ""}, "other"),
        ({"origin": "http://127.0.0.1"}, "other"),
        ({"origin": "http://127.0.0.1:8888"}, "other"),
        ({"origin": "https://127.0.0.1:8420"}, "other"),
        ({"origin": "http://localhost:8420"}, "other"),
        # The Origin is what counts where both are there.
        ({"origin": "https://evil.example", "sec_fetch_site": "same-origin"}, "other"),
        ({"origin": "http://127.0.0.1:8420.evil.example"}, "other"),
    ],
)
def test_whose_page_sent_it(settings: Settings, headers: dict[str, str], page: str) -> None:
    assert page_of(settings, scope(**OWN, **headers)) == page


def test_two_origins_are_another(settings: Settings) -> None:
    twice = scope(**OWN, origin="http://127.0.0.1:8420")
    twice["headers"].append((b"origin", b"http://127.0.0.1:8420"))
    assert page_of(settings, twice) == "other"


@pytest.mark.parametrize(
    ("value", "origin", "prefix"),
    [
        ("https://monosemy.example", "https://monosemy.example", ""),
        ("https://Monosemy.example/", "https://monosemy.example", ""),
        ("https://tools.example:8443/sae/monosemy/", "https://tools.example:8443", "/sae/monosemy"),
        ("http://127.0.0.1:8420", "http://127.0.0.1:8420", ""),
        (None, None, ""),
    ],
)
def test_the_public_address(tmp_path: Path, value, origin, prefix: str) -> None:
    settings = Settings(home=tmp_path, public_url=value)
    assert (settings.public_origin, settings.path_prefix) == (origin, prefix)


@pytest.mark.parametrize(
    "value",
    [
        "monosemy.example",
        "ftp://monosemy.example",
        "https://",
        "https://user@monosemy.example",
        "https://monosemy.example/?x=1",
        "https://monosemy.example/#top",
        "https://monosemy.example/a/../b",
        "https://monosemy.example/a//b",
        "https://monosemy.example/a b",
        "https://monosemy.example/a;Path=/",
    ],
)
def test_what_is_no_public_address_is_refused_at_the_start(tmp_path: Path, value: str) -> None:
    with pytest.raises(ValidationError, match="is no address such as"):
        Settings(home=tmp_path, public_url=value)


@pytest.mark.parametrize(
    "path",
    ["/", "/saes/demo", "/saes/demo/features?sort=density&q=a%20b", "/try?sae=demo#t=abc", "/ü"],
)
def test_where_a_login_may_lead(path: str) -> None:
    assert safe_next(path) == path


@pytest.mark.parametrize(
    "path",
    [
        None,
        "",
        "saes",
        "//evil.example",
        "///evil.example",
        "/a//b",
        "/\\evil.example",
        "\\\\evil.example",
        "/a\\b",
        "https://evil.example",
        "https:/evil.example",
        "javascript:alert(1)",
        "/\tx",
        "/\n/evil.example",
        "/\x00",
        " /saes",
        "/a b",
        "/\x85x",
        "/" + "x" * 3000,
    ],
)
def test_where_a_login_never_leads(path: str | None) -> None:
    assert safe_next(path) == "/"
