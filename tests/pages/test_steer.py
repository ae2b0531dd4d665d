"""/steer in a real browser: cards in units of maxima, texts that are streamed and swept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, update

from service.database.session import transaction
from service.database.tables import Score
from tests.pages.answers import PLAIN, PROMPT, STEERED, written
from tests.pages.fragments import fragment
from tests.service.conftest import FakeInference
from tests.support.browser import PATIENCE_MS, holds, scrolls_sideways, violations
from tests.support.campaign import wider
from tests.support.library_rows import Library, add_explanation


@pytest.fixture(scope="module", autouse=True)
def scored(module_engine: Engine, library: Library) -> None:
    """Feature 13 has an intervention score, feature 8 an explanation without one."""
    with transaction(module_engine) as session:
        explanation = add_explanation(session, library, 13, "monarchs", "Rulers.", 0.28)
        change = {"scorer": "intervention", "metric": "mean_surprisal_change", "low": -0.5}
        change |= {"high": 1.06, "n": 5, "baseline": 0.1}
        query = update(Score).where(Score.explanation_id == explanation)
        session.execute(query.values(**change))
        add_explanation(session, library, 8, "queens", "Rulers too.")


@pytest.fixture(autouse=True)
def writes(inference: FakeInference) -> Iterator[FakeInference]:
    inference.requests.clear()
    inference.lines = written
    yield inference
    inference.lines, inference.away = None, False


def bodies(inference: FakeInference) -> list[dict[str, Any]]:
    return [body for path, body in inference.requests if path == "/steer"]


def write(page: Any) -> None:
    page.get_by_role("button", name="Write").click()


def finished(page: Any) -> None:
    page.get_by_text("All is written.").wait_for()


def text_of(page: Any, name: str) -> str:
    return "".join(page.get_by_label(name, exact=True).locator("span").all_inner_texts())


def test_steer_units(explorer: str, open_page: Any, writes: FakeInference) -> None:
    """A slider is in maxima: what is sent on is the strength times the feature's maximum."""
    page = open_page(f"{explorer}/steer?sae=demo&f=13=1.5&f=8=-2=clamp#p={fragment(PROMPT)}")
    first, second = page.locator("[data-card]").all()
    assert "activation 9" in first.inner_text() and "activation −2" in second.inner_text()
    assert (
        "intervention +0.28 (−0.50 to 1.06), shuffled +0.10, n 5 (few texts)" in first.inner_text()
    )
    link = second.get_by_role("link", name="Score it by intervention").get_attribute("href")
    assert "kind=score" in link and "scoring.scorer%3Dintervention" in link
    first.get_by_role("slider").fill("-0.5")
    assert "activation −3" in first.inner_text()
    holds(first.get_by_role("spinbutton"), "-0.5")
    first.get_by_role("spinbutton").fill("2.25")
    holds(first.get_by_role("slider"), "2.25")
    write(page)
    finished(page)
    sent = bodies(writes)
    assert sorted(body["writing"]["seed"] for body in sent) == [0, 1, 2]
    for body in sent:
        assert body["pushes"] == [
            {"latent": 13, "strength": 13.5, "mode": "add"},
            {"latent": 8, "strength": -2.0, "mode": "clamp"},
        ]
    assert "f=13%3D2.25" in page.url and "f=8%3D-2%3Dclamp" in page.url
    assert "Once" not in page.url


def test_rows_are_seeds_and_the_first_difference_is_marked(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/steer?sae=demo&f=13=1&seeds=2#p={fragment(PROMPT)}")
    write(page)
    finished(page)
    for seed in (0, 1):
        assert text_of(page, f"With, seed {seed}") == "".join(STEERED) + f" {seed}"
        assert text_of(page, f"Without, seed {seed}") == "".join(PLAIN)
        marked = page.get_by_label(f"With, seed {seed}", exact=True).locator(".differs")
        assert marked.all_inner_texts() == [" the"]
    assert page.get_by_text("ended by the model").count() == 2
    page.get_by_label("With, seed 1", exact=True).locator(".differs").hover()
    said = page.locator("[data-chance]").inner_text()
    assert "With, seed 1, token 3" in said and "log-probability −0.50, 60.7" in said
    assert "Without the push this place has “ a" in said


def test_steer_streams(explorer: str, open_page: Any, writes: FakeInference) -> None:
    """The first token is shown while the last has not been made."""
    gate = threading.Event()

    def slowly(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        events = list(written(body))
        yield from events[:2]
        gate.wait(PATIENCE_MS / 1000)
        yield from events[2:]

    writes.lines = slowly
    page = open_page(f"{explorer}/steer?sae=demo&f=13=1&seeds=1#p={fragment(PROMPT)}")
    write(page)
    page.get_by_label("With, seed 0", exact=True).locator("span").first.wait_for()
    assert text_of(page, "With, seed 0") == STEERED[0]
    assert not gate.is_set() and not page.get_by_text("All is written.").is_visible()
    gate.set()
    finished(page)
    assert text_of(page, "With, seed 0") == "".join(STEERED) + " 0"


def test_a_sweep_has_a_row_for_each_strength(
    explorer: str, open_page: Any, writes: FakeInference
) -> None:
    page = open_page(f"{explorer}/steer?sae=demo&f=13=1.5#p={fragment(PROMPT)}")
    page.get_by_label("one each at strength").check()
    write(page)
    finished(page)
    strengths = {body["pushes"][0]["strength"]: body["compare"] for body in bodies(writes)}
    assert strengths == {4.5: False, 9.0: True, 18.0: False, 36.0: False}
    assert [body["writing"]["seed"] for body in bodies(writes)] == [0] * 4
    heads = page.locator("[data-rows] h2").all_inner_texts()
    assert heads == ["× 0", "× 0.5", "× 1", "× 2", "× 4"]
    assert text_of(page, "Times 0") == "".join(PLAIN)
    assert page.locator("[data-rows] .differs").all_inner_texts() == [" the"] * 4


def test_where_is_pushed_is_chosen_and_told(
    explorer: str, open_page: Any, writes: FakeInference
) -> None:
    page = open_page(f"{explorer}/steer?sae=demo&f=13=1&seeds=1#p={fragment(PROMPT)}")
    assert not page.get_by_label("from position").is_visible()
    page.get_by_label("special tokens of the prompt too").check()
    page.get_by_label("push at").select_option("range")
    assert not page.get_by_label("special tokens of the prompt too").is_visible()
    page.get_by_label("from position").fill("-3")
    write(page)
    finished(page)
    assert page.get_by_text("Pushed at 1 of the prompt's 2 tokens.").is_visible()
    page.get_by_label("push at").select_option("tokens")
    write(page)
    page.get_by_text("Say first which tokens").wait_for()
    page.get_by_label("tokens, one a line").fill(" the\n<s>")
    page.get_by_label("line breaks").check()
    write(page)
    finished(page)
    page.get_by_label("push at").select_option("special")
    write(page)
    finished(page)
    sent = [body["writing"] for body in bodies(writes)]
    assert [(each["where"], each["special_tokens"]) for each in sent] == [
        ("range", False),
        ("tokens", False),
        ("special", False),
    ]
    assert sent[0]["range"] == {"first": -3, "last": -1} and "tokens" not in sent[0]
    named = {"texts": [" the", "<s>"], "ids": [], "contains": [], "kinds": ["newline"]}
    assert sent[1]["tokens"] == named and "range" not in sent[1]


def test_an_address_says_where_is_pushed(explorer: str, open_page: Any) -> None:
    address = "where=tokens&text=%20the&text=%0A&part=%3C&kind=number&kind=newline"
    page = open_page(f"{explorer}/steer?sae=demo&f=13=1&{address}#p={fragment(PROMPT)}")
    holds(page.get_by_label("or that contain"), "<")
    assert page.get_by_label("line breaks").is_checked()
    assert not page.get_by_label("punctuation").is_checked()
    page.get_by_text("On the command line").click()
    told = page.locator(".commands").inner_text()
    assert "'--at-text= the'" in told and "--at-kind=number" in told
    assert '"contains": ["<"], "kinds": ["number", "newline"]' in told
    write(page)
    finished(page)
    assert "kind=newline&kind=number" in page.url and "part=%3C" in page.url
    page = open_page(f"{explorer}/steer?sae=demo&f=13=1&where=range&first=-4&last=-2")
    assert "--range=-4:-2" in page.locator(".commands").text_content()


def test_what_goes_wrong_is_told_in_its_row(
    explorer: str, open_page: Any, writes: FakeInference
) -> None:
    def breaks(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from list(written(body))[:3]
        yield {"event": "error", "detail": "There is not enough memory."}

    writes.lines = breaks
    page = open_page(
        f"{explorer}/steer?sae=demo&f=13=1&seeds=1#p={fragment(PROMPT)}",
        allowed=["Failed to load resource"],
    )
    write(page)
    page.get_by_text("not enough memory").first.wait_for()
    writes.away = True
    write(page)
    page.get_by_text("Trying again in").wait_for()
    writes.away, writes.lines = False, written
    finished(page)
    page.get_by_role("button", name="Write").click()
    finished(page)


def test_features_are_added_by_number_words_and_lists(
    explorer: str, open_page: Any, library: Library
) -> None:
    import httpx

    rest = f"{explorer}/api/v1"
    httpx.post(f"{rest}/lists", json={"name": "pushes"}).raise_for_status()
    entries = [{"sae": "demo", "feature": 13, "note": "at -1.5 it rhymes"}]
    entries.append({"sae": "demo", "feature": 20})
    httpx.post(f"{rest}/lists/pushes/entries", json={"entries": entries}).raise_for_status()
    page = open_page(f"{explorer}/steer?sae=demo#p={fragment(PROMPT)}")
    page.get_by_label("A feature", exact=True).fill("8")
    page.get_by_role("button", name="Add", exact=True).click()
    page.locator("[data-card='8']").wait_for()
    holds(page.get_by_label("The text to go on from"), "Once")
    page.locator("[data-card='8']").get_by_role("spinbutton").fill("0.75")
    page.get_by_label("Another feature").fill("monarchs")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("link", name="Add feature 13").click()
    page.locator("[data-card='13']").wait_for()
    page.get_by_label("from a list").select_option("pushes")
    page.get_by_role("button", name="Add all").click()
    page.locator("[data-card='20']").wait_for()
    strengths = {
        each.get_attribute("data-card"): each.get_by_role("spinbutton").input_value()
        for each in page.locator("[data-card]").all()
    }
    assert strengths == {"8": "0.75", "13": "-1.5", "20": "1"}
    page.get_by_role("link", name="Without feature 13").click()
    page.locator("[data-card='13']").wait_for(state="detached")
    assert page.locator("[data-card]").count() == 2
    holds(page.get_by_label("The text to go on from"), "Once")


def test_what_cannot_be_pushed_is_told(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/steer?sae=demo&f=13=1&f=99=1&f=<b>&f=5=2=twist&f=7=1")
    notes = page.locator(".notice").all_inner_texts()
    assert len(notes) == 3 and any("'<b>' is not INDEX=STRENGTH" in note for note in notes)
    assert any("99 is none of them" in note for note in notes)
    # Feature 7 never fires (its maximum is 0): it can be pushed by activations alone.
    silent = page.locator("[data-card='7']")
    assert "as an activation" in silent.inner_text() and silent.get_by_role("slider").count() == 0


def test_without_a_script_it_says_how_else(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/steer?sae=demo&f=13=1.5", java_script_enabled=False)
    assert page.get_by_text("monosemy steer demo").is_visible()
    assert page.get_by_text("--feature 13=1.5").is_visible()
    assert page.get_by_text("activation 9").is_visible()
    assert not page.get_by_role("button", name="Write").is_visible()


@pytest.mark.parametrize("scheme", ["light", *wider("dark")])
def test_it_is_accessible_and_fits_a_telephone(explorer: str, open_page: Any, scheme: str) -> None:
    page = open_page(
        f"{explorer}/steer?sae=demo&f=13=1&f=8=1&f=7=2&add=king&seeds=1#p={fragment(PROMPT)}",
        viewport={"width": 390, "height": 800},
        color_scheme=scheme,
    )
    write(page)
    finished(page)
    page.get_by_label("With, seed 0", exact=True).locator("span").first.hover()
    assert violations(page) == []
    assert not scrolls_sideways(page)
