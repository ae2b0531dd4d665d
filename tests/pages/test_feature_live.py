"""A feature is explained, scored, voted on, tagged, listed and tried without leaving its page."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, select, text

from service.database.key_tables import AuditEntry
from service.database.session import transaction
from service.database.tables import Explanation, Run, Sae
from service.runs.repository import add_event
from service.runs.under_way import under_way_on
from tests.service.conftest import FakeInference
from tests.support.library_rows import Library, add_explanation
from tests.support.scored_rows import GOOD, PLAIN

FEATURE = "/saes/demo/features"


def rest(explorer: str, path: str) -> Any:
    return httpx.get(f"{explorer}/api/v1{FEATURE}/{path}").json()


def submitted(engine: Engine, library: Library, feature: int) -> Run:
    """The run at work on the feature, once it is there."""
    for _ in range(600):
        with transaction(engine) as session:
            found = under_way_on(session, session.get_one(Sae, library.sae), feature)
            if found:
                session.expunge(found[0])
                return found[0]
        time.sleep(0.05)
    raise AssertionError(f"no run on feature {feature} was submitted")


def change(engine: Engine, run: uuid.UUID, state: str, **more: Any) -> None:
    """What a worker writes when its run comes to ``state``."""
    with transaction(engine) as session:
        row = session.get_one(Run, run)
        before, row.state = row.state, state
        for name, value in more.items():
            setattr(row, name, value)
        add_event(session, run, "state", {"state": state, "from": before, "kind": row.kind, **more})


def test_explain_from_page(
    explorer: str, open_page: Any, module_engine: Engine, library: Library
) -> None:
    page = open_page(f"{explorer}{FEATURE}/{PLAIN}")
    page.evaluate("window.stayed = true")
    page.keyboard.press("e")
    run = submitted(module_engine, library, PLAIN)
    assert run.spec["explanation"]["features"]["indices"] == [PLAIN]
    change(module_engine, run.id, "running")
    page.locator("#judge-said", has_text="running").wait_for()
    with transaction(module_engine) as session:
        add_explanation(session, library, PLAIN, "crowned heads", "Kings and queens.", key="live")
    change(module_engine, run.id, "succeeded", result={"failed": {}})
    page.locator("#said", has_text="crowned heads").wait_for()
    assert "no explanation" not in page.locator("#heading").inner_text()
    assert "Nobody has explained" not in page.locator("main").inner_text()
    assert page.evaluate("window.stayed") is True
    assert page.locator("[data-vote='1']").is_visible()


def test_a_run_that_fails_says_why(
    explorer: str, open_page: Any, module_engine: Engine, library: Library
) -> None:
    page = open_page(f"{explorer}{FEATURE}/{GOOD}")
    page.get_by_label("Scorer").select_option("embedding")
    page.get_by_role("button", name="Score by").click()
    run = submitted(module_engine, library, GOOD)
    assert run.spec["scoring"]["scorer"] == "embedding" and run.spec["features"] == [GOOD]
    said = page.locator("article.explanation").first.get_attribute("data-explanation")
    assert run.spec["explanation"] == said
    change(module_engine, run.id, "failed", error="The judge is away. <b>")
    page.locator("#judge-said.error", has_text="The judge is away. <b>").wait_for()


def test_a_run_under_way_is_followed(
    explorer: str, open_page: Any, module_engine: Engine, library: Library
) -> None:
    url = f"{explorer}/api/v1{FEATURE}/21/explanations"
    run = uuid.UUID(httpx.post(url, json={}).json()["id"])
    assert [each["id"] for each in rest(explorer, "21/runs")["items"]] == [str(run)]
    assert rest(explorer, "22/runs")["items"] == []
    page = open_page(f"{explorer}{FEATURE}/21")
    assert "Being explained now" in page.locator("#under-way").inner_text()
    with transaction(module_engine) as session:
        add_explanation(session, library, 21, "thrones", "Seats of kings.", key="under way")
    change(module_engine, run, "succeeded", result={})
    page.locator("#said", has_text="thrones").wait_for()
    assert page.locator("#under-way").inner_text().strip() == ""


def test_what_the_judge_could_not_do_is_told(
    explorer: str, open_page: Any, module_engine: Engine, library: Library
) -> None:
    page = open_page(f"{explorer}{FEATURE}/22")
    page.get_by_role("button", name="Explain").click()
    run = submitted(module_engine, library, 22)
    failed = {"22": "The judge gave no usable answer: <i>"}
    change(module_engine, run.id, "succeeded", result={"failed": failed})
    page.locator("#judge-said", has_text="no usable answer: <i>").wait_for()


def test_write_vote_tag_list_are_kept_and_audited(
    explorer: str, open_page: Any, module_engine: Engine
) -> None:
    page = open_page(f"{explorer}{FEATURE}/23", allowed=["Failed to load resource"])
    page.keyboard.press("w")
    page.keyboard.type("Names of <b>rulers</b>, whatever they rule.")
    page.get_by_label("In a few words").fill("rulers")
    page.get_by_role("button", name="Save").click()
    block = page.locator("article.explanation").first
    block.get_by_text("rulers", exact=True).wait_for()
    assert "Names of <b>rulers</b>" in block.inner_text() and "by a person" in block.inner_text()
    page.locator("h1").click()
    page.keyboard.press("+")
    page.locator(".votes", has_text="1 for, 0 against").wait_for()
    assert page.locator("[data-vote='1']").get_attribute("aria-pressed") == "true"
    page.keyboard.press("-")
    page.locator(".votes", has_text="0 for, 1 against").wait_for()
    page.keyboard.press("-")
    page.locator(".votes", has_text="0 for, 0 against").wait_for()
    page.keyboard.press("t")
    page.keyboard.type("Royal Family")
    page.keyboard.press("Enter")
    page.locator("#tag-list", has_text="royal-family").wait_for()
    page.get_by_label("New tag").fill("<b>")
    page.keyboard.press("Enter")
    page.locator("#tag-form .error").wait_for()
    page.get_by_label("Take off royal-family").click()
    page.locator("#tag-list", has_text="none").wait_for()
    page.locator("h1").click()
    page.keyboard.press("l")
    page.keyboard.type("to look at")
    page.keyboard.press("Enter")
    page.locator("#list-list", has_text="to look at").wait_for()
    page.get_by_label("List to add it to").fill("royalty")
    page.keyboard.press("Enter")
    page.locator("#list-list", has_text="royalty").wait_for()
    page.reload()
    text_of_page = page.locator("main").inner_text()
    for words in ("rulers", "to look at", "royalty"):
        assert words in text_of_page
    assert rest(explorer, "23")["explanations"][0]["label"] == "rulers"
    with transaction(module_engine) as session:
        routes = set(session.scalars(select(AuditEntry.route)))
    assert {
        "/api/v1/saes/{sae}/features/{index}/explanations",
        "/api/v1/explanations/{explanation}/vote",
        "/api/v1/saes/{sae}/features/{index}/tags",
        "/api/v1/lists/{list}/entries",
    } <= routes


def test_ones_own_text_is_read(explorer: str, open_page: Any, inference: FakeInference) -> None:
    texts = [" the", " <b>king</b>", "."]
    inference.answers["/activations"] = {
        "tokens": [{"id": place, "text": text} for place, text in enumerate(texts)],
        "saes": [{"features": [[], [], []], "chosen": [[0.0, 2.0, 0.5]]}],
    }
    page = open_page(f"{explorer}{FEATURE}/{GOOD}", allowed=["Failed to load resource"])
    box = page.get_by_label("Where does it fire?")
    box.fill("the <b>king</b>.")
    page.get_by_role("button", name="Read").click()
    result = page.locator("#test-form .result")
    result.locator("mark").first.wait_for()
    assert result.locator("mark").all_inner_texts() == [" <b>king</b>", "."]
    maximum = rest(explorer, str(GOOD))["max_activation"]
    assert f"2, {round(200 / maximum)}" in (result.locator("mark").first.get_attribute("title"))
    status = page.locator("#test-form [role=status]")
    assert "fires on 2 of 3 tokens" in status.inner_text()
    sent = [body for path, body in inference.requests if path == "/activations"][-1]
    assert sent["saes"][0]["features"] == [GOOD] and sent["text"] == "the <b>king</b>."
    inference.away = True
    try:
        page.get_by_role("button", name="Read").click()
        page.locator("#test-form .error", has_text=re.compile("Try again in \\d+ s")).wait_for()
    finally:
        inference.away = False


def test_without_script_no_dead_control_is_shown(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}{FEATURE}/{GOOD}", java_script_enabled=False)
    main = page.locator("main")
    assert main.get_by_role("button").all_inner_texts() == ["Show"]
    page.locator("select[name=scale]").select_option("window")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url(re.compile("scale=window"))
    page.get_by_role("link", name="wrapped").click()
    page.wait_for_url(re.compile("view=wrapped.*scale=window|scale=window.*view=wrapped"))


@pytest.fixture(autouse=True)
def no_runs(module_engine: Engine) -> Any:
    with transaction(module_engine) as session:
        before = session.scalar(text("SELECT clock_timestamp()"))
    yield
    with transaction(module_engine) as session:
        session.execute(text("DELETE FROM runs WHERE created_at > :before"), {"before": before})
        session.query(Explanation).filter_by(explainer="human").delete()
