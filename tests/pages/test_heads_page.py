"""The heads behind an SAE: what a survey found, on its page, in the table and on a feature's
page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from monosemy.figures import fixed, interval
from monosemy.specs.rest.attention import SurveyedFeature
from service.database.session import transaction
from service.database.tables import Sae
from tests.support.attention_rows import standing_at, surveyed
from tests.support.browser import TELEPHONE, here, scrolls_sideways, violations
from tests.support.library_rows import Library

PAGE = "/saes/demo/heads"


@pytest.fixture
def by_heads(module_engine: Engine, library: Library) -> Iterator[None]:
    """The library's SAE stands where heads do."""
    with standing_at(module_engine, library):
        yield


@pytest.fixture
def found(
    module_engine: Engine, library: Library, by_heads: None
) -> Iterator[list[SurveyedFeature]]:
    with surveyed(module_engine, library) as features:
        yield features


def test_heads_with_their_figures(
    explorer: str, open_page: Any, found: list[SurveyedFeature]
) -> None:
    page = open_page(f"{explorer}{PAGE}")
    rows = page.locator("table.heads tbody tr")
    assert rows.count() == 3 and "0 of 3 heads" in page.locator("main").inner_text()
    owned = sum(each.head == 1 for each in found)
    assert rows.nth(1).locator("td").first.inner_text() == str(owned)
    assert rows.nth(1).locator(".first a").count() == 5
    families = page.locator("table.families tbody tr")
    assert families.count() == 7
    assert not violations(page) and not scrolls_sideways(page)
    rows.nth(1).get_by_role("link", name="of head 1").click()
    page.wait_for_url("**/features?head=1")
    shown = page.locator("#table tbody tr")
    assert shown.count() == owned
    family = next(each.family for each in found if each.head == 1)
    page.get_by_label("family").select_option(family)
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**family=**")
    both = [each for each in found if (each.head, each.family) == (1, family)]
    assert shown.count() == len(both) > 0
    shown.first.locator("th a").click()
    told = page.locator(".facts", has_text="family")
    low, high = both[0].low, both[0].high
    assert both[0].deciding is not None
    figures = f"{family}, {fixed(both[0].deciding)} {interval(low, high)} of what adds, n 8"
    assert figures in told.inner_text()
    assert "head=1" in here(page), "j and k stay with the head"


def test_on_a_telephone(explorer: str, open_page: Any, found: list[SurveyedFeature]) -> None:
    page = open_page(f"{explorer}{PAGE}", viewport=TELEPHONE)
    assert not scrolls_sideways(page)


def test_before_a_survey(explorer: str, open_page: Any, by_heads: None) -> None:
    page = open_page(f"{explorer}/saes/demo")
    page.get_by_role("link", name="Heads").click()
    assert "have not been surveyed" in page.locator("main").inner_text()
    page.get_by_role("link", name="Survey its heads").click()
    page.wait_for_url("**/runs/new?kind=attention&sae=demo")


def test_where_there_are_no_heads(explorer: str, open_page: Any, library: Library) -> None:
    page = open_page(f"{explorer}{PAGE}")
    assert "where no attention heads stand side by side" in page.locator("main").inner_text()
    page = open_page(f"{explorer}/saes/demo")
    assert page.get_by_role("link", name="Heads").count() == 0


def test_a_survey_of_other_weights_is_not_shown(
    explorer: str,
    open_page: Any,
    module_engine: Engine,
    library: Library,
    found: list[SurveyedFeature],
) -> None:
    with transaction(module_engine) as session:
        sae = session.get_one(Sae, library.sae)
        before, sae.provenance = (
            sae.provenance,
            {**sae.provenance, "weights": {"digest": "f" * 16, "parts": {}}},
        )
    page = open_page(f"{explorer}{PAGE}")
    assert "other weights" in page.locator(".notice.warn").inner_text()
    assert page.locator("table.heads").count() == 0
    page = open_page(f"{explorer}/saes/demo/features/{found[0].index}")
    assert page.locator(".facts", has_text="family").count() == 0
    with transaction(module_engine) as session:
        session.get_one(Sae, library.sae).provenance = before
