"""What stands behind a feature's words: judgements, and the way back to the text."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from monosemy.interp import strata
from monosemy.interp.prompts.loader import load_prompt
from service.database.session import transaction
from service.database.tables import Sae
from service.pages.format import fixed
from tests.support.library_rows import Library
from tests.support.scored_rows import FAILED, GOOD, POOR

FEATURE = "/saes/demo/features"


@pytest.fixture(scope="module")
def digests(explorer: str, library: Library, module_engine: Engine) -> dict[str, str]:
    del explorer
    with transaction(module_engine) as session:
        sae = session.get_one(Sae, library.sae)
        text_id = str((sae.index or {})["text_id"])
        sae.provenance = {
            "text": {"text_id": text_id, "tokens": 1280, "tokens_digest": "15392376270e5a70"},
            "weights": {"digest": "89bf143f0a73ac47"},
            "model": {"fingerprint": "f-demo"},
        }
        sae.index = {**(sae.index or {}), "sae_digest": "89bf143f0a73ac47"}
    return {"weights": "89bf143f0a73ac47", "text": text_id, "tokens": "15392376270e5a70"}


@pytest.mark.parametrize("feature", [GOOD, POOR, FAILED])
def test_judgements_open(explorer: str, open_page: Any, feature: int) -> None:
    page = open_page(f"{explorer}{FEATURE}/{feature}")
    page.get_by_role("link", name="judgements").first.click()
    page.wait_for_url(re.compile("/scores/"))
    score = page.url.rpartition("/")[2]
    known = httpx.get(f"{explorer}/api/v1{FEATURE}/{feature}/scores/{score}").json()
    rows = page.locator(".judged tbody tr")
    assert rows.count() == known["n"] + known["n_failed"]
    given = httpx.get(f"{explorer}/api/v1{FEATURE}/{feature}/scores/{score}/judgements").json()
    for place in (0, 1, 12, 19):
        each, text = given["items"][place], rows.nth(place).inner_text()
        cells = text.split("\t")
        assert cells[1] == ("yes" if each["truth"] else "no")
        wanted = "no usable answer" if each["failed"] else "yes" if each["answer"] else "no"
        assert cells[2] == wanted
        assert "".join(each["text"]["tokens"]).replace("\n", "↵") in text
        if each["stratum"] is not None:
            assert strata.name(each["stratum"], 10) in cells[4]
    assert fixed(known["value"]) in page.locator(".scores").inner_text()
    outcomes = [each["right"] for each in given["items"] if not each["failed"]]
    for name, count in (("right", outcomes.count(True)), ("wrong", outcomes.count(False))):
        if count:
            page.locator("#outcomes").get_by_role("link", name=name).click()
            page.wait_for_url(re.compile(f"outcome={name}"))
            assert page.locator(".judged tbody tr").count() == count


def test_provenance_walk(explorer: str, open_page: Any, digests: dict[str, str]) -> None:
    """From an explanation to the text in at most six clicks, the same digests on the way."""
    page = open_page(f"{explorer}{FEATURE}/{GOOD}")
    clicks = 0

    def click(name: str) -> None:
        nonlocal clicks
        page.locator("main").get_by_role("link", name=name).first.click()
        clicks += 1

    click("provenance")
    page.wait_for_url(re.compile("/explanations/"))
    back = page.url
    click("explain_default, version 2")
    page.wait_for_url(re.compile("/prompts/explain_default"))
    prompt = load_prompt("explain_default", 2)
    assert prompt.hash in page.locator("main").inner_text()
    assert prompt.sections[0][1][:60] in page.locator("pre").first.inner_text()
    page.goto(back)
    steps = page.locator(".steps-back > li")
    titles = steps.locator("h2").all_inner_texts()
    assert [title.split()[1] for title in titles] == [
        *("explanation", "prompt", "judge", "texts", "index", "SAE", "text")
    ]
    text = dict(zip(titles, steps.all_inner_texts(), strict=True))
    assert f"the same as noted: {prompt.hash}" in text["The prompt"]
    assert "judge-8b" in text["The judge"] and "http://judge.test/v1" in text["The judge"]
    assert text["The texts it was shown"].count("Article") == 3
    assert f"the same as noted: {digests['weights']}" in text["The index"]
    assert f"the same as noted: {digests['text']}" in text["The index"]
    assert digests["weights"] in text["The SAE"] and "the same as noted: f-demo" in text["The SAE"]
    assert digests["text"] in text["The text"] and digests["tokens"] in text["The text"]
    assert clicks <= 6


def test_digests_that_differ_are_told(
    explorer: str, library: Library, module_engine: Engine, digests: dict[str, str]
) -> None:
    with transaction(module_engine) as session:
        sae = session.get_one(Sae, library.sae)
        sae.index = {**(sae.index or {}), "sae_digest": "another"}
    said = httpx.get(f"{explorer}/api/v1{FEATURE}/{GOOD}").json()["explanations"][0]["id"]
    page = httpx.get(
        f"{explorer}{FEATURE}/{GOOD}/explanations/{said}", headers={"Accept": "text/html"}
    )
    text = re.sub(r"<[^>]+>|\s+", " ", page.text)
    assert f"noted another , here {digests['weights']}" in re.sub(r"\s+", " ", text)


def test_another_features_explanation_is_not_found(explorer: str) -> None:
    said = httpx.get(f"{explorer}/api/v1{FEATURE}/{GOOD}").json()["explanations"][0]["id"]
    for path in (
        f"{FEATURE}/{POOR}/explanations/{said}",
        f"{FEATURE}/{GOOD}/explanations/00000000-0000-0000-0000-000000000000",
        f"{FEATURE}/{GOOD}/scores/00000000-0000-0000-0000-000000000000",
        "/prompts/none",
    ):
        answer = httpx.get(explorer + path, headers={"Accept": "text/html"})
        assert answer.status_code == 404 and "<h1>" in answer.text, path
