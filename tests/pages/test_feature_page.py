"""One feature: figures, drawings, states, examples, and the way from one to the next."""

from __future__ import annotations

import re
import statistics
import time
import uuid
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from service.database.comparison_tables import Comparison, FeatureLink
from service.database.session import transaction
from service.pages.format import density, fixed, interval, number, percent, signed
from tests.support.browser import here
from tests.support.library_rows import Library, add_library
from tests.support.scored_rows import DEAD, FAILED, GOOD, PLAIN, POOR, RAW, UNSCORED

HTML = {"Accept": "text/html"}


def path_of(feature: int, sae: str = "demo") -> str:
    return f"/saes/{sae}/features/{feature}"


def rest(explorer: str, path: str, **query: Any) -> Any:
    answer = httpx.get(f"{explorer}/api/v1{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_figures_equal_rest(explorer: str, open_page: Any) -> None:
    known = rest(explorer, path_of(GOOD))
    page = open_page(explorer + path_of(GOOD))
    facts = page.locator(".facts").inner_text()
    assert f"{density(known['density'])} of tokens ({number(known['postings'])})" in facts
    assert number(known["max_activation"]) in facts
    assert number(known["evidence"]["mean_activation"]) in facts
    assert known["label"] in facts
    for explanation in known["explanations"]:
        block = page.locator(f'[data-explanation="{explanation["id"]}"]').first
        text = block.inner_text()
        assert explanation["label"] in text and explanation["text"] in text
        for score in explanation["scores"]:
            cell = page.locator(f'[data-score="{score["id"]}"]').inner_text()
            wanted = f"{fixed(score['value'])} {interval(score['low'], score['high'])}"
            assert " ".join(cell.split()) == wanted
            assert f"shuffled {fixed(score['baseline'])}" in text
            assert f"n {score['n']}" in text and f"{score['n_failed']} failed" in text
            precision = score["details"]["natural_precision"]["value"]
            assert f"precision in text {percent(precision)}" in text
            test = score["judge_test"]
            assert f"{fixed(test['accuracy'])} right" in text and f"n {test['n']}" in text
    tokens = page.locator(".panels").inner_text()
    for each in known["evidence"]["top_tokens"]:
        assert percent(each["share"]) in tokens and percent(each["fires"]) in tokens
    for each in known["evidence"]["promoted"] + known["evidence"]["suppressed"]:
        assert signed(each["effect"]) in tokens
    shown = page.locator(".examples .act").all_inner_texts()
    assert shown == [number(each["activation"]) for each in known["examples"]]


def test_interval_is_drawn_where_the_figures_say(explorer: str, open_page: Any) -> None:
    score = rest(explorer, path_of(GOOD))["explanations"][0]["scores"][0]
    page = open_page(explorer + path_of(GOOD))
    drawing = page.locator("svg.interval").first
    box = drawing.bounding_box()
    assert box["width"] == float(drawing.get_attribute("width"))  # so that a unit is a pixel

    def ends(selector: str) -> tuple[float, float]:
        part = drawing.locator(selector)
        return float(part.get_attribute("x1")), float(part.get_attribute("x2"))

    left, right = ends(".rail")

    def at(value: float) -> float:
        return left + (right - left) * value

    assert abs(float(drawing.locator("circle.own").get_attribute("cx")) - at(score["value"])) <= 1
    low, high = ends("line.own")
    assert abs(low - at(score["low"])) <= 1 and abs(high - at(score["high"])) <= 1
    diamond = drawing.locator("path.null").bounding_box()
    middle = diamond["x"] - box["x"] + diamond["width"] / 2
    assert abs(middle - at(score["baseline"])) <= 1
    label = drawing.get_attribute("aria-label")
    assert fixed(score["value"]) in label and fixed(score["baseline"]) in label


@pytest.mark.parametrize("feature", [GOOD, POOR])
def test_not_told_apart_badge(explorer: str, feature: int) -> None:
    score = rest(explorer, path_of(feature))["explanations"][0]["scores"][0]
    page = httpx.get(explorer + path_of(feature), headers=HTML).text
    above = score["low"] > score["baseline"]
    assert above is (feature == GOOD)
    assert ("not told apart from a shuffled explanation" in page) is not above
    assert ("not above shuffled" in page) is not above


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (path_of(DEAD), "never fired in 1,280 tokens"),
        (path_of(DEAD), "3/n"),
        (path_of(PLAIN), "Nobody has explained it yet"),
        (path_of(UNSCORED), "Not scored yet"),
        (path_of(FAILED), "every judgement failed"),
        (path_of(3, RAW), "not indexed yet"),
    ],
)
def test_feature_states(explorer: str, path: str, words: str) -> None:
    answer = httpx.get(explorer + path, headers=HTML)
    assert answer.status_code == 200 and words in re.sub(r"\s+", " ", answer.text)


def test_dead_features_bound_is_three_over_n(explorer: str) -> None:
    page = httpx.get(explorer + path_of(DEAD), headers=HTML).text
    assert f"fewer than {density(3 / 1280)} tokens" in page


def test_what_there_is_not_is_a_page_with_its_status(explorer: str) -> None:
    for path in (path_of(60), path_of(8, RAW), path_of(1, "none"), path_of(1) + "?list=none"):
        assert httpx.get(explorer + path, headers=HTML).status_code == 404, path
    for query in ("?view=sideways", "?group=q9", "?min_density=0.5&max_density=0.1"):
        answer = httpx.get(explorer + path_of(GOOD) + query, headers=HTML)
        assert answer.status_code == 422 and "<h1>" in answer.text, query


_EDGES = """() => [...document.querySelectorAll("li .window")].map(each => {
  const box = each.querySelector("mark.focus").getBoundingClientRect();
  return [each.dir, Math.round(box.left), Math.round(box.right)];
})"""


def test_examples_are_aligned_on_the_focus_token(explorer: str, open_page: Any) -> None:
    page = open_page(explorer + path_of(GOOD))
    edges = page.evaluate(_EDGES)
    assert len(edges) == 7
    for way, place in (("ltr", 1), ("rtl", 2)):
        edges_there = {edge[place] for edge in edges if edge[0] == way}
        assert len(edges_there) <= 1, edges_there
    nodes = page.locator(".examples mark").count()
    page.set_viewport_size({"width": 800, "height": 900})
    assert len({edge[1] for edge in page.evaluate(_EDGES)}) > 1
    assert page.locator(".examples mark").count() == nodes
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(explorer + path_of(GOOD) + "?view=wrapped")
    assert len({edge[1] for edge in page.evaluate(_EDGES)}) > 1


def test_more_context_group_and_scale_are_in_the_address(explorer: str, open_page: Any) -> None:
    page = open_page(explorer + path_of(GOOD) + "?sort=density&order=desc")
    page.get_by_label("context").select_option("row")
    page.wait_for_url(re.compile("context=row"))
    assert "sort=density" in here(page)
    known = rest(explorer, path_of(GOOD) + "/examples", context=100_000)["items"][0]
    first = page.locator(".examples .window").first
    assert first.locator(".far").all_inner_texts()
    text = "".join(known["before"] + known["tokens"] + known["after"])
    assert first.inner_text().replace("\n", "") == text.replace("\n", "↵")
    page.locator("select[name=group]").select_option("q1")
    page.wait_for_url(re.compile("group=q1"))
    assert page.locator(".examples").count() == 1
    page.get_by_label("darkest shade").select_option("window")
    page.wait_for_url(re.compile("scale=window"))
    assert page.locator(".examples .window").first.locator("mark.h9").count() == 1


def test_next_within_filter(explorer: str, open_page: Any) -> None:
    query = "?sort=max_activation&order=desc&min_density=0.02"
    params = {"sort": "max_activation", "order": "desc", "min_density": 0.02}
    wanted = [each["index"] for each in rest(explorer, "/saes/demo/features", **params)["items"]]
    page = open_page(explorer + path_of(wanted[0]) + query)
    for feature in wanted[1:4]:
        page.keyboard.press("j")
        page.wait_for_url(re.compile(f"/features/{feature}\\?"))
        assert "min_density=0.02" in here(page)
    page.keyboard.press("k")
    page.wait_for_url(re.compile(f"/features/{wanted[2]}\\?"))
    page.goto(explorer + path_of(17) + "?list=royalty")
    page.keyboard.press("j")
    page.wait_for_url(re.compile(r"/features/8\?list=royalty"))
    assert page.get_by_label("Next feature").count() == 0


def test_the_token_under_the_arrows_is_told(explorer: str, open_page: Any) -> None:
    page = open_page(explorer + path_of(GOOD))
    mark = page.locator(".examples mark").first
    mark.focus()
    panel = page.locator("#token")
    known = rest(explorer, path_of(GOOD))["examples"][0]
    first = next(i for i, value in enumerate(known["activations"]) if value or i == known["focus"])
    assert f"id {known['token_ids'][first]}" in panel.inner_text()
    before = panel.inner_text()
    page.keyboard.press("ArrowRight")
    assert panel.inner_text() != before
    page.keyboard.press("Escape")
    assert panel.is_hidden()


def test_a_page_is_light(explorer: str, open_page: Any) -> None:
    """Of the budget for a feature with 36 windows of 33 tokens this page takes its share."""
    answer = httpx.get(explorer + path_of(GOOD), headers=HTML)
    assert len(answer.content) <= 40_000
    page = open_page(explorer + path_of(GOOD))
    assert page.evaluate("document.querySelectorAll('*').length") <= 1500


def test_the_view_is_changed_by_a_key(explorer: str, open_page: Any) -> None:
    page = open_page(explorer + path_of(GOOD) + "?sort=density")
    page.keyboard.press("v")
    page.wait_for_url(re.compile(r"sort=density&view=wrapped#examples"))
    assert page.locator(".examples.aligned").count() == 0
    page.keyboard.press("v")
    page.wait_for_url(re.compile("view=aligned"))
    assert page.locator(".examples.aligned").count() == 3


def test_features_of_other_saes_are_linked(
    explorer: str, library: Library, module_engine: Engine
) -> None:
    with transaction(module_engine) as session:
        other = add_library(session, "other", 20)
        comparison = Comparison(
            id=uuid.uuid4(),
            sae_a=other.sae,
            sae_b=library.sae,
            by="decoder",
            method="mutual",
            summary={},
        )
        session.add(comparison)
        session.flush()
        link = FeatureLink(
            comparison_id=comparison.id, feature_a=4, feature_b=GOOD, value=0.87, matched=True
        )
        session.add(link)
        identity = comparison.id
    page = httpx.get(explorer + path_of(GOOD), headers=HTML).text
    assert 'href="/saes/other/features/4"' in page and "(partner)" in page
    assert f'href="/comparisons/{identity}"' in page and ">0.87<" in page
    without = httpx.get(explorer + path_of(POOR), headers=HTML).text
    assert "/saes/other/" not in without and f"/comparisons/{identity}" not in without


def test_feature_page_fast(explorer: str) -> None:
    """Against REST's answer about the same feature, which a page reads as well: what the drawing
    adds.  (``benchmarks/pages.py`` holds the page to its budget in milliseconds.)"""
    times: dict[str, list[float]] = {"page": [], "rest": []}
    with httpx.Client(base_url=explorer) as client:
        for turn in range(25):
            for name, path in (("page", path_of(GOOD)), ("rest", f"/api/v1{path_of(GOOD)}")):
                begun = time.perf_counter()
                assert client.get(path, headers=HTML if name == "page" else {}).status_code == 200
                if turn >= 5:
                    times[name].append(time.perf_counter() - begun)
    page, rest_ = (statistics.median(times[name]) for name in ("page", "rest"))
    assert page <= 6 * rest_, (page, rest_)
