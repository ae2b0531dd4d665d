"""/attention in a real browser: features of a token, arcs, heads, and steps back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, delete

from service.database.session import transaction
from service.database.tables import Feature, Sae
from service.pages import format
from tests.pages.fragments import fragment
from tests.service.conftest import FakeInference
from tests.support.browser import here, holds, scrolls_sideways, violations
from tests.support.campaign import wider
from tests.support.lens_rows import ANSWER, add_attention_sae
from tests.support.library_rows import Library

TEXT = fragment({"text": " king sat."})


@pytest.fixture(scope="module", autouse=True)
def heads(module_engine: Engine, library: Library) -> None:
    with transaction(module_engine) as session:
        add_attention_sae(session, library)


@pytest.fixture(autouse=True)
def answers(inference: FakeInference) -> Iterator[FakeInference]:
    inference.requests.clear()
    inference.answers = {"/attention": ANSWER}
    yield inference
    inference.answers, inference.away = {}, False


def opened(open_page: Any, explorer: str, more: str = "", **options: Any) -> Any:
    page = open_page(f"{explorer}/attention?sae=heads&residual=demo{more}#t={TEXT}", **options)
    page.locator("[data-feature] .steps").wait_for()
    return page


def test_what_is_asked_and_what_is_shown(
    explorer: str, open_page: Any, answers: FakeInference
) -> None:
    page = opened(open_page, explorer)
    ((path, sent),) = answers.requests
    assert path == "/attention" and sent["text"] == " king sat." and sent["depth"] == 3
    assert sent["sae"]["site"] == "blocks.2.attn.hook_z" and sent["tokens"] is None
    assert [each["path"] for each in sent["through"]] == ["saes/demo"]
    assert page.locator("[data-read] span").all_inner_texts() == ["<s>", " king", " sat", "."]
    rows = page.locator("[data-features] tbody tr")
    first = ANSWER["features"][0]
    assert rows.count() == 2 and "chosen" in (rows.first.get_attribute("class") or "")
    assert rows.first.locator("td").nth(1).inner_text() == format.number(first["activation"])
    bars = page.locator(".bars dd.n").all_inner_texts()
    shares = sorted(first["by_head"], key=lambda value: -abs(value))
    assert bars == [format.signed(value, 3) for value in shares]
    assert page.locator("[data-arcs] path:not(.hit)").count() == 4  # BOS, king, sat and itself
    widths = page.locator("[data-arcs] path:not(.hit)").evaluate_all(
        "all => all.map(each => Number(each.getAttribute('stroke-width')))"
    )
    assert widths == sorted(widths, reverse=True) and widths[0] == 4.5
    assert "king" not in here(page)


def test_a_click_goes_to_a_feature_and_another_one_step_back(explorer: str, open_page: Any) -> None:
    page = opened(open_page, explorer)
    steps = page.locator(".steps").first
    assert steps.locator("> li").count() == 3
    page.get_by_role("button", name="Show what “ king” token 0 was made of").click()
    behind = steps.locator("> li").first.locator("ul > li")
    assert behind.count() == 2 and "error of demo" in behind.nth(1).inner_text()
    link = behind.first.get_by_role("link", name="demo 3")
    assert link.get_attribute("href") == "/saes/demo/features/3"
    behind.first.get_by_role("button").click()
    made = behind.first.locator("ul > li")
    assert [each.split("\n")[0] for each in made.all_inner_texts()] == [
        "MLP of block 1",
        "encoder bias",
    ]
    behind.first.get_by_role("button").first.click()
    assert made.count() == 0
    page.locator("[data-features]").get_by_role("button", name="Sources").nth(1).click()
    assert "f=12" in here(page)
    assert page.locator("[data-feature] h2 a").get_attribute("href") == "/saes/heads/features/12"


def test_another_token_is_asked_for_once(
    explorer: str, open_page: Any, answers: FakeInference
) -> None:
    page = opened(open_page, explorer)
    for key in ("Home", "ArrowRight", "End", "ArrowLeft"):
        page.locator("[data-read]").press(key)
        page.locator("[data-asked]", has_text="Reading").wait_for(state="hidden")
    page.wait_for_function("() => location.search.includes('at=1')")
    asked = [sent["tokens"] for _, sent in answers.requests]
    assert asked[0] is None and sorted(each[0] for each in asked[1:]) == [0, 1]


def test_sources_may_be_told_by_what_was_written(
    explorer: str, open_page: Any, answers: FakeInference
) -> None:
    page = opened(open_page, explorer)
    page.get_by_label("sources told by").select_option(label="what was written into the stream")
    page.wait_for_function("() => location.search.includes('residual=-')")
    page.locator("[data-asked]", has_text="2 heads of block 2").wait_for()
    assert answers.requests[-1][1]["through"] == []
    page.reload()
    page.locator("[data-feature] .steps").wait_for()
    holds(page.get_by_label("sources told by"), "-")


def rows_of(table: Any) -> list[list[str]]:
    return [each.split("\t") for each in table.locator("tbody tr, tfoot tr").all_inner_texts()]


def test_an_arc_and_a_cell_lead_to_why_the_head_looks_there(
    explorer: str, open_page: Any, answers: FakeInference
) -> None:
    page = opened(open_page, explorer)
    assert page.locator("[data-pair-first]").is_visible()
    cells = page.locator("table.cells button")
    shown = [format.signed(value) for _, _, value in ANSWER["features"][0]["cells"]]
    assert sorted(cells.all_inner_texts()) == sorted(shown)
    arc = page.locator("[data-arcs] g", has=page.locator("title", has_text="“ king” token 0"))
    arc.locator(".hit").dispatch_event("click")
    page.locator(".pair .picture").wait_for()
    sent = answers.requests[-1][1]
    assert sent["pair"] == {"head": 1, "token": 2, "source": 0}  # the cell of most of that token
    assert (sent["tokens"], sent["depth"]) == ([2], 0)
    assert [each["path"] for each in sent["through"]] == ["saes/demo"]
    assert page.evaluate("document.activeElement.id") == "pair-title"
    assert "pair=1.2.0" in here(page) and "king" not in here(page)
    page.get_by_role("button", name="Why head 0 looks at “<s>” BOS: +0.5").press("Enter")
    page.wait_for_function("() => location.search.includes('pair=0.2.-1')")
    page.reload()
    page.locator(".pair .picture").wait_for()
    assert answers.requests[-1][1]["pair"] == {"head": 0, "token": 2, "source": -1}


def test_the_tables_of_a_pair_add_up_and_say_what_biases_are(explorer: str, open_page: Any) -> None:
    page = opened(open_page, explorer, "&pair=1.2.0")
    pair, tables = ANSWER["pair"], page.locator(".pair table")
    tables.first.wait_for()
    facts = page.locator(".pair .facts").inner_text().replace("\n", " ")
    assert "attention 75" in facts and "beyond the average +1.500" in facts
    assert (
        "37.5\u2009% has a bias in it, 62.5\u2009% an error" in page.locator(".pair").inner_text()
    )
    assert tables.count() == 4
    strongest, query, key, groups = (rows_of(tables.nth(n)) for n in range(4))
    assert strongest[0][0].startswith("demo 11 ") and strongest[0][1:] == [
        *("error of demo", "+1.250", "+1.500"),
    ]
    assert strongest[1:] == [
        ["biases of norm and projection", "error of demo", "−0.125", "+0.250"],
        ["all other pairs", "+0.375", "+0.250"],
        ["sum", "+1.500", "+2.000"],
    ]
    assert query[-1] == key[-1] == ["sum", "+1.500", "+2.000"] == groups[-1][:3]
    assert groups[1] == ["biases", "features", "+0.250", "+0.500", "37.5\u2009%"]
    link = tables.first.get_by_role("link", name="demo 11")
    assert link.get_attribute("href") == "/saes/demo/features/11"
    paths = page.locator(".picture path")
    assert paths.count() == len(pair["pairs"]) and paths.nth(1).get_attribute("class") == "less"
    assert page.locator(".picture .parts > div").count() == 3  # two of the query, one of the key


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        (("2", "2", "0"), "head", "heads 0 to 1"),
        (("", "2", "0"), "head", "heads 0 to 1"),
        (("1", "3", "0"), "token", "tokens 0 to 2"),
        (("1", "2", "-2"), "source", "−1 is the BOS"),
        (("1", "0", "2"), "source", "looks back"),
    ],
)
def test_a_pair_that_is_not_there_is_told_at_its_field(
    explorer: str,
    open_page: Any,
    answers: FakeInference,
    given: tuple[str, str, str],
    field: str,
    words: str,
) -> None:
    page = opened(open_page, explorer)
    asked = len(answers.requests)
    for label, value in zip(("head", "from token", "to token"), given, strict=True):
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Say why").click()
    assert words in page.locator(f"#pair-{field}-error").inner_text()
    named = page.locator(f".pair [name={field}]")
    assert named.get_attribute("aria-invalid") == "true"
    assert page.evaluate("document.activeElement.name") == field
    assert len(answers.requests) == asked
    for label, value in zip(("head", "from token", "to token"), ("1", "2", "0"), strict=True):
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Say why").click()
    page.locator(".pair .picture").wait_for()
    assert named.get_attribute("aria-invalid") is None


def test_a_pair_that_the_server_refuses_is_told_in_its_section(
    explorer: str, open_page: Any, answers: FakeInference
) -> None:
    page = opened(open_page, explorer, allowed=["Failed to load resource"])
    answers.answers, answers.status = {}, 422
    answers.answer = {"detail": "Scores of this model cannot be taken apart: ALiBi."}
    page.locator("table.cells button").first.click()
    page.locator("[data-pair-asked]", has_text="cannot be taken apart").wait_for()
    assert page.locator("[data-pair-told]").inner_text() == ""
    assert page.locator("[data-feature] .steps").first.is_visible()
    answers.answer, answers.status = None, 200


def test_what_is_refused_is_told(explorer: str, open_page: Any, answers: FakeInference) -> None:
    page = open_page(f"{explorer}/attention?sae=heads", allowed=["Failed to load resource"])
    page.get_by_role("button", name="Read").click()
    assert "Write a text first" in page.locator("[data-asked]").inner_text()
    answers.answers, answers.status = {}, 422
    answers.answer = {"detail": "The prompt has 1 token; at least 2 are needed."}
    page.get_by_label("The text to be read").fill("a")
    page.get_by_role("button", name="Read").click()
    page.get_by_text("The prompt has 1 token").wait_for()
    answers.answer, answers.status = None, 200
    refused = open_page(
        f"{explorer}/attention?sae=demo", allowed=["Failed to load resource", "422"]
    )
    assert "has no heads" in refused.locator("main").inner_text()


def test_without_a_script_and_without_an_sae_it_says_how(
    explorer: str, open_page: Any, module_engine: Engine, library: Library
) -> None:
    page = open_page(f"{explorer}/attention?sae=heads", java_script_enabled=False)
    assert page.get_by_text("monosemy attention heads").is_visible()
    assert page.get_by_text("/api/v1/inference/attention").is_visible()
    with transaction(module_engine) as session:
        session.execute(delete(Feature).where(Feature.sae_id.in_(_heads())))
        session.execute(delete(Sae).where(Sae.name == "heads"))
    try:
        page = open_page(f"{explorer}/attention")
        assert "There is no SAE on attention outputs" in page.locator("main").inner_text()
        assert violations(page) == []
    finally:
        with transaction(module_engine) as session:
            add_attention_sae(session, library)


def _heads() -> Any:
    from sqlalchemy import select

    return select(Sae.id).where(Sae.name == "heads")


@pytest.mark.parametrize("scheme", ["light", *wider("dark")])
def test_it_is_accessible_and_fits_a_telephone(explorer: str, open_page: Any, scheme: str) -> None:
    page = opened(open_page, explorer, viewport={"width": 390, "height": 800}, color_scheme=scheme)
    page.get_by_role("button", name="Show what “ king” token 0 was made of").click()
    page.locator("table.cells button").first.click()
    page.locator(".pair .picture").wait_for()
    assert violations(page) == []
    assert not scrolls_sideways(page)
