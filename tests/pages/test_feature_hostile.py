"""Tokens, names and texts of strangers stay text on the pages of a feature."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import Engine

from service.database.session import transaction
from service.pages.tokens import clipped, shown
from tests.support.browser import scrolls_sideways, violations
from tests.support.hostile_rows import NAME, TOKENS, WORDS, Hostile, add_hostile

_ELEMENTS = """() => ["IMG", "SCRIPT", "B", "STYLE", "IFRAME"].map(
  each => document.querySelectorAll(`main ${each}`).length)"""


@pytest.fixture(scope="module")
def hostile(explorer: str, module_engine: Engine) -> Hostile:
    del explorer
    with transaction(module_engine) as session:
        return add_hostile(session)


def pages(hostile: Hostile) -> list[str]:
    feature = f"/saes/{quote(NAME)}/features/0"
    return [
        feature,
        f"{feature}?view=wrapped&context=row&breaks=true",
        f"/saes/{quote(NAME)}/features/1",
        f"{feature}/scores/{hostile.score}",
        f"{feature}/explanations/{hostile.explanation}",
    ]


def test_hostile_tokens_stay_text(explorer: str, hostile: Hostile, open_page: Any) -> None:
    page = open_page(explorer + pages(hostile)[0])
    windows = page.locator(".examples .window")
    wanted = "".join(clipped(each) for each in TOKENS)
    for place in range(windows.count()):
        text = windows.nth(place).text_content()
        assert text.startswith(wanted)  # in order, whatever a token would like
        assert windows.nth(place).get_attribute("dir") == "ltr"
    assert page.evaluate("document.querySelectorAll('main mark *').length") == 0
    tokens = page.locator(".panels .token").all_text_contents()
    assert [clipped(each.replace("\x00", "\u2400")) for each in TOKENS[:8]] == tokens[:8]


def test_hostile_names(explorer: str, hostile: Hostile, open_page: Any) -> None:
    page = open_page(explorer + "/models")
    for path in pages(hostile):
        page.goto(explorer + path)
        images, scripts, bold, styles, frames = page.evaluate(_ELEMENTS)
        assert images == styles == frames == 0, path
        # The data of the page is the only script in it; <b> is for values alone.
        assert scripts <= 1 and "bold" not in page.locator("main b").all_text_contents(), path
        assert bold == page.locator("main b").count()
        text = page.locator("body").inner_text()
        assert "{{ 7 * 7 }}" in text, path
        assert "\u202e" not in page.locator("body").text_content(), path
        assert page.evaluate("document.title").count("\u202e") == 0
    assert shown(WORDS)[:30] in page.locator("main").text_content()


def test_hostile_pages_fit_and_are_accessible(
    explorer: str, hostile: Hostile, open_page: Any
) -> None:
    page = open_page(explorer + "/models", viewport={"width": 390, "height": 800})
    for path in pages(hostile):
        page.goto(explorer + path)
        assert not scrolls_sideways(page), path
        assert not violations(page), path


def test_direction_is_that_of_the_window(
    explorer: str, hostile: Hostile, open_page: Any, module_engine: Engine
) -> None:
    """In a window that runs from right to left the focus tokens' right edges are aligned."""
    from service.database.tables import Context, Feature, Sae

    del hostile
    with transaction(module_engine) as session:
        other = add_hostile(session, "rtl")
        sae = session.get_one(Sae, other.library.sae)
        import numpy as np

        row = session.get_one(Context, (sae.index["text_id"], 0))  # type: ignore[index]
        row.token_ids = np.array([9, 10] * 11, "<u4").tobytes()
        assert session.get_one(Feature, (sae.id, 0)).postings
    page = open_page(f"{explorer}/saes/rtl/features/0")
    edges = page.evaluate(
        """() => [...document.querySelectorAll("li .window")].map(each => [each.dir,
            Math.round(each.querySelector("mark.focus").getBoundingClientRect().right)])"""
    )
    assert {edge[0] for edge in edges} == {"rtl"} and len({edge[1] for edge in edges}) == 1
