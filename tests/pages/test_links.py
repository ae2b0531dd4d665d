"""Every link that can be reached without script leads somewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin, urlsplit

import httpx

from tests.pages.addresses import ADDRESSES

HTML = {"Accept": "text/html"}
MOST_LINKS = 400
"""Followed by the crawl; a library of tests has a few hundred."""


def _is_error(path: str) -> bool:
    return path == "/nothing-here"


def test_links_resolve(explorer: str) -> None:
    """Every link that can be reached without script answers, with no error of client or server."""
    with httpx.Client(headers=HTML, timeout=60.0) as client:
        waiting = [path for path in ADDRESSES if not _is_error(path)]
        seen = set(waiting)
        broken = []
        while waiting and len(seen) <= MOST_LINKS:
            path = waiting.pop(0)
            answer = client.get(explorer + path)
            if answer.status_code >= 400:
                broken.append(f"{path}: {answer.status_code}")
                continue
            if not answer.headers.get("content-type", "").startswith("text/html"):
                continue
            assert len(answer.content) <= 60_000, f"{path} has {len(answer.content):,} bytes"
            for link in _links(answer.text):
                target = urldefrag(urljoin(explorer + path, link))[0]
                if urlsplit(target).netloc != urlsplit(explorer).netloc:
                    broken.append(f"{path} leads away: {target}")
                    continue
                relative = target.removeprefix(explorer) or "/"
                if relative not in seen and not _endless(relative):
                    seen.add(relative)
                    waiting.append(relative)
    assert not broken, "\n".join(broken)
    assert len(seen) > len(ADDRESSES)


def _endless(path: str) -> bool:
    """REST's, next pages, feature after feature: a few of a kind are enough."""
    return (
        path.startswith("/api/")
        or "cursor=" in path
        or bool(re.search(r"/features/(?!0\b|1\b|2\b|3\b)\d+", path))
    )


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        name = {"a": "href", "link": "href", "script": "src", "img": "src"}.get(tag)
        value = dict(attrs).get(name or "")
        if value and not value.startswith("#"):
            self.found.append(value)


def _links(html: str) -> list[str]:
    parser = _Links()
    parser.feed(html)
    return parser.found
