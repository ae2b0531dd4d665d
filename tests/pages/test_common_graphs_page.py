"""What graphs have in common in the explorer: chosen in the list or by run, figures as REST has
them."""

from __future__ import annotations

from typing import Any

import httpx

from monosemy.figures import number, percent
from tests.support.browser import asked, violations
from tests.support.graph_rows import PARAPHRASED, PARAPHRASES
from tests.support.planted_common import CORE


def test_the_page_says_what_rest_says(explorer: str, open_page: Any) -> None:
    asked = {"run": str(PARAPHRASED), "least": 3}
    it = httpx.get(f"{explorer}/api/v1/graphs/common", params=asked).json()
    page = open_page(f"{explorer}/graphs/common?run={PARAPHRASED}&least=3")
    assert "What 3 graphs have in common" in page.locator("h1").inner_text()
    text = page.locator("main").inner_text()
    assert percent(it["overlap"]["within"]) in text
    assert percent(it["overlap"]["by_chance"]) in text
    features = [each for each in it["units"] if each["kind"] == "feature"]
    rows = page.locator("section[aria-labelledby=features-title] tbody tr")
    assert rows.count() == len(features) >= len(CORE)
    first = rows.first.inner_text()
    assert percent(features[0]["share"]["value"]) in first
    assert number(features[0]["chance"]["q"], 2) in first
    edges = page.locator("section[aria-labelledby=edges-title] tbody tr")
    assert edges.count() == min(len(it["edges"]), 40)
    drawn = page.locator("svg.common")
    assert drawn.locator(".unit.feature").count() == min(len(features), 30)
    assert drawn.locator(".beyond").count() == it["stable"]
    assert drawn.locator("path.adds, path.takes").count() > 0
    link = next(each for each in features if it["served"][each["coder"]])
    address = f"/saes/{it['saes'][link['coder']]}/features/{link['latent']}"
    assert drawn.locator(f"a[href$='{address}']").count() == 1
    assert not violations(page)


def test_graphs_are_chosen_in_the_list(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/graphs?run={PARAPHRASED}")
    for place in (1, 2):
        page.get_by_label(f"Choose paraphrase-{place}").check()
    page.get_by_role("button", name="Compare the chosen").click()
    page.locator("h1", has_text="What 2 graphs").wait_for()
    chosen = asked(page)["graph"]
    assert sorted(chosen) == sorted(str(each) for each in PARAPHRASES[:2])
    page.get_by_label("features are the same").select_option("token")
    page.get_by_role("button", name="Show", exact=True).click()
    page.wait_for_url("**align=token**")
    assert asked(page)["graph"] == chosen
    # From one of them back to all of its run.
    page.locator(".named a").first.click()
    page.get_by_role("link", name="what they have in common").click()
    page.locator("h1", has_text="What 3 graphs").wait_for()


def test_one_chosen_graph_is_too_few(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/graphs?run={PARAPHRASED}", allowed=["Failed to load resource"])
    page.get_by_label("Choose paraphrase-1").check()
    page.get_by_role("button", name="Compare the chosen").click()
    assert "it takes 2 to 50 graphs, not 1" in page.locator("main").inner_text()
