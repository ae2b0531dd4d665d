"""What holds for every address of the explorer: axe, the policy, the width of a telephone, no
script, weights.

Each address is visited once with scripts and once without; the tests read what was seen.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from service.pages.static import static_files, tree_digest
from tests.pages.addresses import ADDRESSES
from tests.support.browser import TELEPHONE, WIDE, Watch, scrolls_sideways, violations

pytestmark = pytest.mark.slow

REFUSED = "Failed to load resource: the server responded with a status of 4"
"""What Chromium says of a page that is itself an error."""
FACTS = ":is(h1, h2, table, dl):visible:not(:has(time))"
"""What says the same with scripts and without; times of day become local ones."""
MOST = {"html": 60_000, "html, packed": 15_000, "script": 25_000, "style": 15_000, "nodes": 1500}
"""Bytes of a page, scripts and styles packed; and elements."""


@dataclass(frozen=True)
class Visit:
    """What was seen at one address."""

    path: str
    sideways: bool
    """At 390 pixels."""
    violations: list[str]
    """At 1,440 pixels, light."""
    headings: int
    faults: list[str]
    """Of the console, the policy and the network."""
    words: str
    facts_without_script: list[str]
    weights: dict[str, int]


@pytest.fixture(scope="module")
def visits(explorer: str, browser: Any) -> list[Visit]:
    live, plain = (browser.new_context(java_script_enabled=script) for script in (True, False))
    page, without = live.new_page(), plain.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(urlsplit(request.url).path))
    seen = [_visit(explorer, path, page, without, requested) for path in ADDRESSES]
    live.close()
    plain.close()
    return seen


def _visit(explorer: str, path: str, page: Any, without: Any, requested: list[str]) -> Visit:
    requested.clear()
    watch = Watch(urlsplit(explorer).netloc)
    with watch.over(page), watch.over(without):
        page.set_viewport_size(TELEPHONE)
        answer = page.goto(explorer + path)
        sideways = scrolls_sideways(page)
        page.set_viewport_size(WIDE)
        violated = violations(page)
        words = _plain(page.locator("main").inner_text())
        without.goto(explorer + path)
        facts = [_plain(each) for each in without.locator(f"main {FACTS}").all_inner_texts()]
    if answer.status >= 400:
        watch.faults = [each for each in watch.faults if REFUSED not in each]
    return Visit(
        path=path,
        sideways=sideways,
        violations=violated,
        headings=page.locator("h1").count(),
        faults=watch.faults,
        words=words,
        facts_without_script=facts,
        weights={
            "html": len(answer.body()),
            "html, packed": len(gzip.compress(answer.body())),
            "script": _packed(requested, ".js"),
            "style": _packed(requested, ".css"),
            "nodes": page.evaluate("document.querySelectorAll('*').length"),
        },
    )


def _plain(text: str) -> str:
    return " ".join(text.split())


def _packed(requested: list[str], ending: str) -> int:
    """Bytes of the static files among what was requested."""
    names = {each.removeprefix(f"/static/{tree_digest()}/") for each in requested}
    files = static_files()
    return sum(len(gzip.compress(files[name])) for name in names if name.endswith(ending))


def _told(visits: list[Visit], faults: Callable[[Visit], list[str]]) -> str:
    return "\n".join(f"{visit.path}: {each}" for visit in visits for each in faults(visit))


def test_axe_clean(visits: list[Visit]) -> None:
    """One state of each address; the campaign in ``test_every_state`` has them all."""
    assert not (faults := _told(visits, lambda visit: visit.violations)), faults
    assert {visit.path for visit in visits if visit.headings != 1} == set()


def test_keeps_csp_and_nothing_leaves(visits: list[Visit]) -> None:
    assert not (faults := _told(visits, lambda visit: visit.faults)), faults


def test_no_sideways_scroll_at_390(visits: list[Visit]) -> None:
    assert [visit.path for visit in visits if visit.sideways] == []


def test_reading_without_javascript(visits: list[Visit]) -> None:
    """Headings, tables and lists of figures are the same without scripts."""

    def missing(visit: Visit) -> list[str]:
        return [each for each in visit.facts_without_script if each not in visit.words]

    assert all(visit.facts_without_script for visit in visits)
    assert not (faults := _told(visits, missing)), faults


def test_weights(visits: list[Visit]) -> None:
    def heavy(visit: Visit) -> list[str]:
        return [
            f"{name} {visit.weights[name]:,}" for name in MOST if visit.weights[name] > MOST[name]
        ]

    assert not (faults := _told(visits, heavy)), faults
    assert any(visit.weights["script"] for visit in visits)
