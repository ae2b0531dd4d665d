"""A feature circuit on the page of graphs: sites by columns, effects, and its check in words."""

from __future__ import annotations

from typing import Any

from monosemy.figures import signed
from service.pages.feature_circuit_words import belief_of
from tests.support.browser import violations
from tests.support.feature_circuit_rows import CIRCUIT, PROMPT, SITES, circuit_summary


def test_it_is_drawn_by_sites_and_told_in_words(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/graphs/{CIRCUIT}")
    page.locator("#said:not(:has-text('Loading'))").wait_for()
    text = page.locator("main").inner_text()
    assert PROMPT in text and "and 19 other pairs" in text and "summed" in text
    assert "Steer its prompt" not in text
    page.locator("#plot").focus()
    page.keyboard.press("Home")
    assert "effect −" in page.locator("#said").inner_text()
    page.keyboard.press("Shift+ArrowUp")
    page.locator("#said", has_text="blocks.").wait_for()
    doubts = belief_of(circuit_summary()).doubts
    assert len(doubts) == 4, doubts
    assert " ".join(doubts[0].split()) == (
        "Effects of the prompt's tokens miss 58 % of the difference."
    )
    for doubt in doubts:
        assert doubt in text
    rows = page.locator("#check table").first.locator("tbody tr").all_inner_texts()
    assert len(rows) == len(SITES) and signed(-0.7, 3) in rows[1]
    assert f"carry {signed(5.53, 3)} of {signed(3.5, 3)}; {signed(2.03, 3)} is missed" in text
    assert page.locator("#check figure").count() == 2
    cells = page.locator("#nodes tbody tr").first.inner_text()
    assert "blocks." in page.locator("#nodes tbody").inner_text(), cells
    assert violations(page) == []


def test_its_nodes_have_effects_and_its_kind_is_a_filter(explorer: str, open_page: Any) -> None:
    node = open_page(f"{explorer}/graphs/{CIRCUIT}/nodes/0")
    facts = node.locator("#node .facts").inner_text()
    assert SITES[0] in facts and "effect" in facts and "activation" not in facts
    listed = open_page(f"{explorer}/graphs?kind=feature_circuit")
    assert listed.locator("table.graphs tbody tr").count() == 1
    assert "only feature circuits All graphs" in listed.locator("form.filters").inner_text()
    assert "feature circuit" in listed.locator("table.graphs").inner_text()
