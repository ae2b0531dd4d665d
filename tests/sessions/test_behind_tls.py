"""Behind a proxy that ends TLS, over real sockets: which cookie, which origin, whose address; and
what is refused without one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from monosemy.errors import MonosemyError
from service.app import create_app
from service.database.session import transaction
from service.settings import Settings
from tests.support.logged_in import API, cookie_of, slug
from tests.support.served import served
from tests.support.tls_proxy import SEEN_AS, tls_proxy, why_no_certificate

NO_CERTIFICATE = why_no_certificate()
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(NO_CERTIFICATE is not None, reason=str(NO_CERTIFICATE)),
]

MakeKey = Callable[..., str]


@contextmanager
def behind(
    settings: Settings, folder: Path, prefix: str = "", public: bool = True, **given: Any
) -> Iterator[tuple[httpx.Client, str]]:
    """A client that speaks TLS to the proxy, and the address of the server behind it."""
    folder.mkdir()
    with tls_proxy(folder, prefix) as (proxy, trust):
        update = {"trusted_proxies": "127.0.0.1", **given}
        if public:
            update["public_url"] = proxy.address + prefix
        with served(create_app(settings.model_copy(update=update))) as address:
            proxy.upstream = address
            with httpx.Client(
                base_url=proxy.address + prefix, verify=trust, timeout=60, trust_env=False
            ) as client:
                yield client, address


def origin_of(client: httpx.Client) -> str:
    return f"https://{client.base_url.netloc.decode()}"


def log_in(client: httpx.Client, key: str, origin: str) -> httpx.Response:
    return client.post(f"{API}/sessions", json={"key": key}, headers={"Origin": origin})


@pytest.mark.parametrize(
    ("prefix", "public", "name", "path"),
    [
        ("", True, "__Host-monosemy", "/"),
        ("", False, "__Host-monosemy", "/"),
        ("/tools/monosemy", True, "__Secure-monosemy", "/tools/monosemy"),
    ],
    ids=["public URL", "Host and scheme by the proxy", "below a path"],
)
def test_a_session_behind_tls(
    settings: Settings,
    make_key: MakeKey,
    tmp_path: Path,
    engine: Engine,
    prefix: str,
    public: bool,
    name: str,
    path: str,
) -> None:
    key = make_key()
    with behind(settings, tmp_path / "tls", prefix, public) as (client, address):
        origin = origin_of(client)
        answer = log_in(client, key, origin)
        assert answer.status_code == 201, answer.text
        cookie = cookie_of(answer)
        assert (cookie.key, cookie["path"], cookie["domain"]) == (name, path, "")
        assert cookie["secure"] and cookie["httponly"] and cookie["samesite"].lower() == "lax"
        # The client keeps the cookie itself, and sends it by https alone.
        assert client.get(f"{API}/runs").status_code == 200
        csrf = {"X-CSRF-Token": answer.json()["csrf_token"]}

        def make(**headers: str) -> httpx.Response:
            return client.post(f"{API}/lists", json={"name": "x"}, headers={**csrf, **headers})

        inner = address.removeprefix("http://")
        for wrong in (f"http://{inner}", f"https://{inner}", "https://localhost", "null",
                      origin.replace("https", "http"), "https://evil.example"):  # fmt: skip
            refused = make(Origin=wrong)
            assert (refused.status_code, slug(refused)) == (403, "other-origin"), wrong
            assert origin in refused.json()["detail"]
        assert make(Origin=origin).status_code == 201
        assert answer.json()["client"] == SEEN_AS
        out = client.delete(f"{API}/sessions/current", headers={**csrf, "Origin": origin})
        assert out.status_code == 204 and cookie_of(out)["path"] == path
        assert not client.cookies, "the browser has forgotten it"
        assert client.get(f"{API}/runs").status_code == 401
    with transaction(engine) as session:
        clients = set(session.scalars(text("SELECT client FROM audit_entries")))
    assert clients == {SEEN_AS}


def test_pages_below_a_path(settings: Settings, make_key: MakeKey, tmp_path: Path) -> None:
    """Links, redirects and forms keep to the path, though the server is asked without it."""
    prefix = "/tools/monosemy"
    with behind(settings, tmp_path / "tls", prefix) as (client, _):
        client.headers["Accept"] = "text/html"
        asked = client.get("/models", params={"a": "b"})
        assert asked.status_code == 303
        assert asked.headers["location"] == f"{prefix}/login?next=%2Fmodels%3Fa%3Db"
        form = client.get("/login").text
        paths = re.findall(r'(?:href|src|action)="(/[^"]*)"', form)
        assert paths and all(each.startswith(f"{prefix}/") for each in paths)
        style = next(each for each in paths if each.endswith("base.css"))
        assert client.get(style.removeprefix(prefix)).status_code == 200
        fields = {"key": make_key(), "next": "/models?a=b"}
        entered = client.post("/login", data=fields, headers={"Origin": origin_of(client)})
        assert entered.headers["location"] == f"{prefix}/models?a=b"
        assert client.get("/models").status_code == 200
        page = client.get("/settings/keys").text
        (csrf,) = set(re.findall(r'name="csrf" value="(\w+)"', page))
        own = {"Origin": origin_of(client)}
        out = client.post("/logout", data={"csrf": csrf}, headers=own)
        assert out.headers["location"] == f"{prefix}/login" and not client.cookies


@pytest.mark.parametrize("path", ["/api", "/models", "/static/x"])
def test_a_path_of_ours_is_no_prefix(settings: Settings, path: str) -> None:
    public = settings.model_copy(update={"public_url": f"https://tools.example{path}"})
    with pytest.raises(MonosemyError, match="another path"):
        create_app(public)


def test_past_the_proxy_nobody_logs_in(
    settings: Settings, make_key: MakeKey, tmp_path: Path
) -> None:
    """Where a public address is set, it alone is ours, even on the server's own machine."""
    key = make_key()
    with behind(settings, tmp_path / "tls") as (client, address):
        answer = log_in(client, key, origin_of(client))
        token = cookie_of(answer).value
        with httpx.Client(base_url=address, trust_env=False) as direct:
            refused = log_in(direct, key, address)
            assert (refused.status_code, slug(refused)) == (403, "other-origin")
            assert origin_of(client) in refused.json()["detail"]
            plain = {"Cookie": f"monosemy_session={token}"}
            assert direct.get(f"{API}/runs", headers=plain).status_code == 401
            assert direct.get(f"{API}/runs", headers={"X-API-Key": key}).status_code == 200


def test_a_proxy_that_nobody_trusts_says_nothing_of_the_scheme(
    settings: Settings, make_key: MakeKey, tmp_path: Path
) -> None:
    key = make_key()
    with behind(settings, tmp_path / "tls", public=False, trusted_proxies="") as (client, _):
        refused = log_in(client, key, origin_of(client))
        assert (refused.status_code, slug(refused)) == (403, "other-origin")
        assert "MONOSEMY_PUBLIC_URL" in refused.json()["detail"]
        named = client.post(
            f"{API}/sessions",
            json={"key": key},
            headers={"Origin": "https://monosemy.example", "Host": "monosemy.example"},
        )
        assert (named.status_code, slug(named)) == (403, "insecure-login")


def test_without_tls_nobody_logs_in_from_another_machine(
    settings: Settings, make_key: MakeKey
) -> None:
    key = make_key()
    with (
        served(create_app(settings)) as address,
        httpx.Client(base_url=address, trust_env=False) as client,
    ):
        headers = {"Host": "monosemy.example:8420", "Origin": "http://monosemy.example:8420"}
        # Whoever is not trusted cannot say that it came by https.
        headers |= {"X-Forwarded-Proto": "https"}
        refused = client.post(f"{API}/sessions", json={"key": key}, headers=headers)
        assert (refused.status_code, slug(refused)) == (403, "insecure-login")
        assert "set-cookie" not in refused.headers
        assert log_in(client, key, address).status_code == 201
