"""Lists and tags: gathered, put in order, noted, renamed by two at once, deleted."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from service.database.session import transaction
from tests.support.browser import holds, violations
from tests.support.gathered_rows import add_list
from tests.support.library_rows import Library

HTML = {"Accept": "text/html"}
HOSTILE_NAME = "<img src=x onerror=alert(1)>"
HOSTILE = "</script><img src=x onerror=alert(1)> \u202e \u2028 <!-- {{ 7 * 7 }}"


@pytest.fixture
def numbers(module_engine: Engine, library: Library) -> Iterator[str]:
    """A list of four features."""
    name = f"numbers {uuid.uuid4().hex[:6]}"
    with transaction(module_engine) as session:
        add_list(session, library, name, [11, 12, 13, 14])
    yield name
    with transaction(module_engine) as session:
        session.execute(text("DELETE FROM feature_lists WHERE name LIKE 'numbers %'"))


def entries(explorer: str, name: str) -> list[tuple[int, str]]:
    answer = httpx.get(f"{explorer}/api/v1/lists/{name}", params={"limit": 200})
    return [(each["feature"], each["note"]) for each in answer.json()["entries"]["items"]]


def saved(page: Any, words: str) -> None:
    page.locator("#saving", has_text=words).wait_for()


def test_a_list_is_begun_and_found(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/lists", allowed=["Failed to load resource"])
    page.keyboard.press("n")
    page.keyboard.type("royalty")
    page.keyboard.press("Enter")
    page.locator("#new-list .error", has_text="already").wait_for()
    page.get_by_label("Name").fill(HOSTILE_NAME)
    page.get_by_label("What is gathered").fill(HOSTILE)
    page.get_by_role("button", name="Make the list").click()
    page.wait_for_url(re.compile(r"/lists/[0-9a-f-]{36}$"))
    assert page.locator("h1").text_content() == HOSTILE_NAME
    assert page.locator("#description").text_content() == HOSTILE
    assert page.locator("main img").count() == 0
    assert "monosemy list add" in page.locator("main").inner_text()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete it").click()
    page.wait_for_url(f"{explorer}/lists")
    assert page.locator("table.lists").inner_text().count("\n") >= 1
    assert page.get_by_text("onerror").count() == 0


def test_entries_are_moved_noted_and_taken_out_by_keyboard(
    explorer: str, open_page: Any, numbers: str
) -> None:
    page = open_page(f"{explorer}/lists/{numbers}", allowed=["Failed to load resource"])
    for key in "jjK":  # the second goes before the first
        page.keyboard.press(key)
    saved(page, "Moved.")
    assert entries(explorer, numbers) == [(12, ""), (11, ""), (13, ""), (14, "")]
    page.keyboard.press("n")
    page.keyboard.type("twelve <b>")
    page.keyboard.press("Enter")
    saved(page, "Saved.")
    assert entries(explorer, numbers)[0] == (12, "twelve <b>")
    page.keyboard.press("j")
    page.keyboard.press("x")
    saved(page, "Taken out.")
    page.keyboard.press("J")  # 13, which took its place, to the end
    saved(page, "Moved.")
    assert entries(explorer, numbers) == [(12, "twelve <b>"), (14, ""), (13, "")]
    shown = page.locator("#entries tbody tr")
    assert [row.get_attribute("data-feature") for row in shown.all()] == ["12", "14", "13"]
    assert [row.locator(".place").inner_text() for row in shown.all()] == ["1", "2", "3"]
    assert not violations(page)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/saes/demo/features/13$"))


def test_a_page_of_a_long_list_knows_its_places(
    explorer: str, module_engine: Engine, library: Library, open_page: Any
) -> None:
    name = f"long {uuid.uuid4().hex[:6]}"
    with transaction(module_engine) as session:
        add_list(session, library, name, range(60))
        session.execute(text("DELETE FROM feature_list_entries WHERE feature = 7"))
    page = open_page(f"{explorer}/lists/{name}")
    page.get_by_role("link", name="Next entries").click()
    first = page.locator("#entries tbody tr").first
    assert (first.get_attribute("data-feature"), first.locator(".place").inner_text()) == (
        "51",
        "51",
    )
    page.keyboard.press("j")
    with page.expect_navigation():  # to the page before
        page.keyboard.press("K")
    assert [feature for feature, _ in entries(explorer, name)][48:52] == [49, 51, 50, 52]


def test_a_conflict_shows_both(explorer: str, open_page: Any, numbers: str) -> None:
    page = open_page(f"{explorer}/lists/{numbers}", allowed=["Failed to load resource"])
    theirs = {"description": "theirs, meanwhile"}
    assert httpx.patch(f"{explorer}/api/v1/lists/{numbers}", json=theirs).status_code == 200
    page.keyboard.press("e")
    page.get_by_label("What is gathered").fill("mine")
    page.get_by_role("button", name="Save").click()
    page.locator("#theirs", has_text="theirs, meanwhile").wait_for()
    holds(page.get_by_label("What is gathered"), "mine")
    page.get_by_role("button", name="Save").click()
    page.locator("#description", has_text="mine").wait_for()
    kept = httpx.get(f"{explorer}/api/v1/lists/{numbers}").json()
    assert kept["description"] == "mine"


def test_what_is_not_saved_is_said_and_tried_again(
    explorer: str, open_page: Any, numbers: str
) -> None:
    page = open_page(f"{explorer}/lists/{numbers}", allowed=["Failed to load resource"])
    page.route("**/entries", lambda route: route.abort())
    page.keyboard.press("j")
    page.keyboard.press("n")
    page.keyboard.type("kept")
    page.keyboard.press("Enter")
    saved(page, "Not saved yet")
    assert entries(explorer, numbers)[0] == (11, "")
    page.unroute("**/entries")
    saved(page, "Saved.")
    assert entries(explorer, numbers)[0] == (11, "kept")


def test_lists_read_without_javascript_and_figures_equal_rest(
    explorer: str, open_page: Any
) -> None:
    page = open_page(f"{explorer}/lists/royalty", java_script_enabled=False)
    rest = httpx.get(f"{explorer}/api/v1/lists/royalty").json()
    rows = page.locator("#entries tbody tr").all()
    assert len(rows) == rest["size"] == 3
    for row, entry in zip(rows, rest["entries"]["items"], strict=True):
        words = row.inner_text()
        assert f"{entry['sae']} {entry['feature']}" in words and entry["note"] in words
    assert page.get_by_role("button", name="Delete", exact=True).count() == 0  # needs the script
    export = page.get_by_role("link", name="JSON lines").get_attribute("href")
    lines = httpx.get(explorer + str(export)).text.splitlines()
    assert [json.loads(line)["feature"] for line in lines] == [3, 17, 8]


def test_tags_lead_to_the_features_that_carry_them(explorer: str) -> None:
    shown = httpx.get(f"{explorer}/tags", headers=HTML).text
    assert 'href="/saes/demo/features?tag=people"' in shown
    none = httpx.get(f"{explorer}/tags", params={"prefix": "zz"}, headers=HTML).text
    assert "No feature carries a tag like that" in none
    assert httpx.get(f"{explorer}/tags", params={"sae": "none"}, headers=HTML).status_code == 404
