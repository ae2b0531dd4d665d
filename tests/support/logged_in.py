"""A browser as the API sees one: what it sends with a request, and a cookie that it keeps.

Cookies are read and sent by hand, so that a test can send those that a browser would not.
"""

from __future__ import annotations

from dataclasses import dataclass
from http.cookies import Morsel, SimpleCookie
from typing import Any

import httpx
from sqlalchemy import Engine, text

from service.database.session import transaction

API = "/api/v1"


def cookie_of(answer: httpx.Response) -> Morsel[str]:
    """The one cookie that ``answer`` sets."""
    (header,) = answer.headers.get_list("set-cookie")
    (morsel,) = SimpleCookie(header).values()
    return morsel


def slug(answer: httpx.Response) -> str:
    """The sort of problem; empty where it is none."""
    if "problem" not in answer.headers.get("content-type", ""):
        return ""
    return str(answer.json()["type"]).rpartition(":")[2]


@dataclass
class Browser:
    """Logged in at ``client``, by pages of ``origin``."""

    client: httpx.Client
    origin: str
    name: str
    """Of the cookie."""
    cookie: str
    csrf: str
    id: str

    def send(self, method: str, path: str, /, **given: Any) -> httpx.Response:
        """As a script of our own page sends it; ``headers`` that are None are left out."""
        usual = {
            "Origin": self.origin,
            "Cookie": f"{self.name}={self.cookie}",
            "X-CSRF-Token": self.csrf,
        }
        headers = {**usual, **given.pop("headers", {})}
        sent = {name: value for name, value in headers.items() if value is not None}
        return self.client.request(method, path, headers=sent, **given)


def log_in(
    client: httpx.Client, key: str, origin: str | None = None, **body: Any
) -> tuple[Browser, httpx.Response]:
    """A browser that logged in with ``key``, and the answer that it got."""
    origin = origin or str(client.base_url).rstrip("/")
    answer = client.post(f"{API}/sessions", json={"key": key, **body}, headers={"Origin": origin})
    assert answer.status_code == 201, answer.text
    cookie, made = cookie_of(answer), answer.json()
    client.cookies.clear()
    return Browser(client, origin, cookie.key, cookie.value, made["csrf_token"], made["id"]), answer


def age(engine: Engine, browser: Browser, created: str, used: str) -> None:
    """Moves the session's times into the past by intervals of SQL."""
    with transaction(engine) as session:
        session.execute(
            text(
                "UPDATE browser_sessions SET created_at = created_at - CAST(:c AS interval),"
                " expires_at = expires_at - CAST(:c AS interval),"
                " last_used_at = last_used_at - CAST(:u AS interval) WHERE id = :id"
            ),
            {"c": created, "u": used, "id": browser.id},
        )
