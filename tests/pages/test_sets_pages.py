"""Sets: listed with what they read and write, and their SAEs by layer."""

from __future__ import annotations

from typing import Any

from monosemy.figures import ranges
from tests.pages.conftest import SET
from tests.support.browser import violations
from tests.support.scored_rows import RAW


def test_a_set_is_reached_from_its_sae_and_leads_to_it(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/saes/{RAW}")
    page.get_by_role("link", name=SET).click()
    page.wait_for_url("**/sets/every%20layer")
    assert "Not every layer" in page.inner_text(".notice")
    assert page.locator("table.saes tbody th[scope=row]").all_inner_texts() == [RAW]
    assert violations(page) == []
    form = page.get_by_role("link", name="Measure all in place at once")
    form.click()
    page.wait_for_url("**/runs/new**")
    assert "evaluate_set" in page.url and page.locator(".failed").count() == 0
    page.goto(f"{explorer}/sets")
    row = page.locator("tbody tr").first.inner_text()
    assert SET in row and "the same" in row and "(not all)" in row
    assert violations(page) == []


def test_layers_in_short() -> None:
    assert ranges([0, 1, 2, 7, 9, 10]) == "0-2, 7, 9-10"
    assert ranges([3]) == "3" and ranges([]) == ""
