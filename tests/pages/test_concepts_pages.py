"""Concepts: figures are those of REST, and a text is written without one where it is flagged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import Engine

from monosemy.specs.rest.concepts import ConceptView
from service.database.session import transaction
from service.database.tables import Model
from service.pages.format import fixed, interval
from tests.pages.answers import PROMPT, token
from tests.pages.fragments import fragment
from tests.service.conftest import FakeInference
from tests.support.concept_rows import NAME
from tests.support.library_rows import Library

HTML = {"Accept": "text/html"}
PATH = f"/concepts/{quote(NAME)}"


def rest(explorer: str) -> ConceptView:
    answer = httpx.get(f"{explorer}/api/v1{PATH}")
    assert answer.status_code == 200, answer.text
    return ConceptView.model_validate(answer.json())


def test_every_figure_of_rest_is_shown_with_its_interval(explorer: str, open_page: Any) -> None:
    it = rest(explorer)
    page = open_page(explorer + PATH, java_script_enabled=False)
    tell, erase, embed, features = page.locator("table.tests").all()
    for each, row in zip(it.detectors, tell.locator("tbody tr").all(), strict=True):
        words = row.inner_text()
        assert each.name in words
        for share in (each.area, each.found, each.false_alarms, each.misspelt):
            assert f"{fixed(share.value)} {interval(share.low, share.high)}" in words
        assert "–" in words  # no paraphrases
    for one, row in zip(it.erasers, erase.locator("tbody tr").all(), strict=True):
        words = row.inner_text()
        assert one.name in words and fixed(one.change_targets) in words
        assert f"{fixed(one.linear.value)} {interval(one.linear.low, one.linear.high)}" in words
    assert it.embeddings is not None
    for change, row in zip(it.embeddings.changes, embed.locator("tbody tr").all(), strict=True):
        words = row.inner_text()
        assert change.name in words and "–" in words  # no others, so that none is the nearest
        for share in (
            *(change.equal, change.cosine, change.similarity),
            *(change.probe, change.new_probe, change.word_probe),
        ):
            assert f"{fixed(share.value)} {interval(share.low, share.high)}" in words
    main = page.inner_text("main")
    assert "is called “a queen & her king”; the word of the last probe is “spoke”" in main
    assert "26 are flagged" in main and it.embeddings.missing[0] in main
    assert "30 retain texts that chose no features (19 are the least)" in main
    assert "by the rule difference" in main and "Those of most targets" in main
    assert "44 features" in main and "near duplicates are never on both sides" in main
    features.get_by_role("link", name="3", exact=True).click()
    page.wait_for_url("**/saes/demo/features/3")


def test_concepts_are_listed_with_what_to_do_where_there_are_none(explorer: str) -> None:
    listed = httpx.get(f"{explorer}/concepts", headers=HTML).text
    assert PATH in listed and fixed(0.9375) in listed
    assert PATH in httpx.get(f"{explorer}/concepts?sae=demo", headers=HTML).text
    none = httpx.get(f"{explorer}/concepts?sae=raw", headers=HTML).text
    assert "has no concept yet" in none and "kind=concept" in none
    assert httpx.get(f"{explorer}/concepts?sae=none", headers=HTML).status_code == 404
    assert httpx.get(f"{explorer}/concepts/none", headers=HTML).status_code == 404


def held(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A prompt that is flagged for every concept of the request."""
    told = [
        {"name": each["name"], "flagged": True, "score": 0.75, "threshold": each["threshold"]}
        for each in body["concepts"]
    ]
    yield {"event": "prompt", "text": "Once", "tokens": 1, "pushed": 1, "concepts": told}
    yield token("steered", " upon", 1, last=True)
    if body["compare"]:
        yield token("plain", " there", 2, last=True)
    yield {
        "event": "end",
        "steered": "length",
        **({"plain": "length"} if body["compare"] else {}),
    }


@pytest.fixture
def writes(inference: FakeInference) -> Iterator[FakeInference]:
    inference.requests.clear()
    inference.lines = held
    yield inference
    inference.lines = None


def test_a_text_is_written_with_a_concept_alone(
    explorer: str, open_page: Any, writes: FakeInference
) -> None:
    page = open_page(explorer + PATH)
    page.get_by_role("link", name="Write with it").click()
    page.wait_for_url("**/steer?sae=demo&c=*")
    page.goto(f"{page.url}#p={fragment(PROMPT)}")
    box = page.get_by_role("checkbox", name=NAME)
    assert box.is_checked() and "--concept" in page.content()
    page.get_by_role("button", name="Write", exact=True).click()
    page.get_by_text("All is written.").wait_for()
    said = page.locator("[data-held]").inner_text()
    assert said == (f"{NAME}: flagged, its features are deactivated (score 0.75, threshold 0.25).")
    body = next(body for path, body in writes.requests if path == "/steer")
    assert body["pushes"] == [] and body["concepts"][0]["features"] == [3, 8]
    box.uncheck()
    page.get_by_role("button", name="Write", exact=True).click()
    page.get_by_text("Add a feature first").wait_for()
    gone = httpx.get(f"{explorer}/steer?sae=demo&c=none", headers=HTML).text
    assert "There is no concept &#39;none&#39; of this SAE." in gone


@pytest.fixture
def silent_host(module_engine: Engine, library: Library) -> Iterator[str]:
    """The library's host model writes no text; why."""
    why = "it is a text encoder, which has no language-model head"
    with transaction(module_engine) as session:
        model = session.get_one(Model, library.model)
        before = model.info
        model.info = {**before, "abilities": {"reasons": {"logits": why, "generation": why}}}
    yield why
    with transaction(module_engine) as session:
        session.get_one(Model, library.model).info = before


def test_nothing_is_offered_that_a_host_which_writes_no_text_cannot_do(
    explorer: str, open_page: Any, silent_host: str
) -> None:
    page = open_page(explorer + PATH, java_script_enabled=False)
    assert page.get_by_role("link", name="Write with it").count() == 0
    assert f"writes no text ({silent_host})" in page.inner_text("main")
    page = open_page(f"{explorer}/saes/demo/features/3", java_script_enabled=False)
    head = page.locator(".actions.head")
    assert head.get_by_role("link", name="Steer").count() == 0
    assert "its host model writes no text" in head.inner_text()
    page = open_page(f"{explorer}/steer?sae=demo&c={quote(NAME)}")
    assert page.locator("form[data-ask]").count() == 0
    assert silent_host in page.locator(".notice").inner_text()
    asked = {"sae": "demo", "prompt": "x", "features": [{"index": 3, "strength": 1}]}
    refused = httpx.post(f"{explorer}/api/v1/inference/steer", json=asked)
    (fault,) = refused.json()["errors"]
    assert refused.status_code == 422 and fault["path"] == "sae" and silent_host in fault["message"]
