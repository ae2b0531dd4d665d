"""/contrast in a real browser: what few texts can show, p-values and values of every text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.pages import format
from tests.pages.answers import HAVE, LACK, SETS, contrasted
from tests.pages.fragments import fragment
from tests.service.conftest import FakeInference
from tests.support.browser import here, holds, scrolls_sideways, violations
from tests.support.campaign import wider


@pytest.fixture(autouse=True)
def finds(inference: FakeInference) -> Iterator[FakeInference]:
    inference.requests.clear()
    inference.answers = {"/contrast": contrasted()}
    yield inference
    inference.answers, inference.away = {}, False


def fill(page: Any, have: list[str], lack: list[str]) -> None:
    page.get_by_label("Texts that have it").fill("\n".join(have))
    page.get_by_label("Texts like them that lack it").fill("\n\n".join(lack))


def test_contrast_warns_of_few(explorer: str, open_page: Any, finds: FakeInference) -> None:
    """Before anything is sent."""
    page = open_page(f"{explorer}/contrast?sae=demo")
    warning = page.locator("[data-few]")
    assert not warning.is_visible()
    for have, lack in ((1, 1), (2, 2), (3, 3), (2, 7), (4, 4), (5, 5), (64, 64)):
        fill(page, ["x"] * have, ["y"] * lack)
        ways = min(math.comb(have + lack, have), 1000)
        shown = warning.is_visible()
        assert shown == (1 / ways > 0.025), (have, lack)
        if shown:
            assert f"{have} against {lack}: no p below 1/{ways}" in warning.inner_text()
            assert ("nothing can be told" in warning.inner_text()) == (1 / ways > 0.05)
    assert not finds.requests
    page.get_by_role("button", name="Contrast").click()
    page.locator("[data-found] table").first.wait_for()


def test_its_figures_are_those_of_rest(explorer: str, open_page: Any, finds: FakeInference) -> None:
    page = open_page(f"{explorer}/contrast?sae=demo&statistic=auroc")
    fill(page, HAVE, LACK)
    page.get_by_label("a text's value").select_option("max")
    page.get_by_role("button", name="Contrast").click()
    page.locator("[data-found] table").first.wait_for()
    (path, sent) = finds.requests[-1]
    assert path == "/contrast" and sent["positive"] == HAVE and sent["negative"] == LACK
    assert sent["values"] is True and sent["pooling"] == "max" and sent["statistic"] == "auroc"
    rest = httpx.post(
        f"{explorer}/api/v1/inference/contrast",
        json={"sae": "demo", "positive": HAVE, "negative": LACK, "values": True},
    ).json()
    for number, side in enumerate(("positive", "negative")):
        rows = page.locator("[data-found] section").nth(number).locator("tbody tr").all()
        assert len(rows) == len(rest[side])
        for row, feature in zip(rows, rest[side], strict=True):
            cells = row.locator("th, td").all_text_contents()
            assert cells[0] == str(feature["index"]) and cells[1] == feature["label"]
            assert cells[2].split(",")[0] == format.number(feature["p_value"])
            assert cells[3] == format.fixed(feature["auroc"])
            assert cells[4] == format.signed(feature["standardised"])
            assert "chance" in (row.get_attribute("class") or "") or feature["p_value"] <= 0.05
            told = row.locator("svg").get_attribute("aria-label")
            for value in feature["values"]:
                assert format.number(value) in told
            titles = row.locator("svg title").all_text_contents()
            assert [title.split(": ", 1)[1] for title in titles] == HAVE + LACK
    shades = page.locator("[data-found] svg").first.locator("rect").all()
    assert [each.get_attribute("class") for each in shades] == ["h9", "h5", "h1", "h0", "h0", "h1"]
    assert "20 labellings" in page.locator("[data-asked]").inner_text()
    assert "auroc" in here(page) and "king" not in here(page)


def test_a_shared_link_shows_the_same(explorer: str, open_page: Any, finds: FakeInference) -> None:
    link = f"{explorer}/contrast?sae=demo#s={fragment({**SETS, 'describe': 'royalty'})}"
    page = open_page(link)
    page.locator("[data-found] table").first.wait_for()
    holds(page.get_by_label("Texts that have it"), "\n".join(HAVE))
    holds(page.get_by_label("What they have, in words"), "royalty")
    assert finds.requests[0][1]["top"] == 100  # candidates that are to be reranked
    assert page.locator("main b").count() == 0


def test_what_cannot_be_sent_is_told(explorer: str, open_page: Any, finds: FakeInference) -> None:
    page = open_page(f"{explorer}/contrast?sae=demo", allowed=["Failed to load resource"])
    status = page.locator("[data-asked]")
    for have, lack, words in (
        ([], LACK, "at least one text on each side"),
        (["x"] * 65, LACK, "At most 64 texts"),
        (["x" * 4001], LACK, "4,000 characters"),
    ):
        fill(page, have, lack)
        page.get_by_role("button", name="Contrast").click()
        assert words in status.inner_text()
    assert not finds.requests
    finds.away = True
    fill(page, HAVE, LACK)
    page.get_by_role("button", name="Contrast").click()
    page.get_by_text("Trying again in").wait_for()


def test_without_a_script_it_says_how_else(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/contrast?sae=demo&statistic=share", java_script_enabled=False)
    assert page.get_by_text("monosemy contrast demo --positive").is_visible()
    assert page.get_by_text("/api/v1/inference/contrast").is_visible()
    assert not page.get_by_role("button", name="Contrast").is_visible()


@pytest.mark.parametrize("scheme", ["light", *wider("dark")])
def test_it_is_accessible_and_fits_a_telephone(explorer: str, open_page: Any, scheme: str) -> None:
    page = open_page(
        f"{explorer}/contrast?sae=demo#s={fragment(SETS)}",
        viewport={"width": 390, "height": 800},
        color_scheme=scheme,
    )
    page.locator("[data-found] table").first.wait_for()
    assert violations(page) == []
    assert not scrolls_sideways(page)
