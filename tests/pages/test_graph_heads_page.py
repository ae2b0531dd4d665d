"""Heads behind an edge, from a node's page: what is asked is REST's, and told as it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from monosemy.figures import percent, signed
from tests.support.browser import asked, until, violations
from tests.support.graph_rows import GRAPH, STEERABLE, UPLOADED, heads_answer, score_answer


@pytest.fixture(autouse=True)
def answering(inference: Any) -> Iterator[None]:
    inference.answers["/graph-heads"] = heads_answer()
    inference.answers["/graph-score"] = score_answer(0, 1, 0, 3)
    inference.requests.clear()
    yield
    inference.away = False


@pytest.fixture(scope="module")
def goal(explorer: str) -> int:
    """A node that is fed from other tokens."""
    path = f"{explorer}/api/v1/graphs/{STEERABLE}/nodes?kind=logit&limit=1"
    return int(httpx.get(path).json()["items"][0]["node"])


def opened(page: Any) -> Any:
    part = page.locator("#heads")
    part.locator("summary").first.press("Enter")
    return part


def sent_to(address: str) -> Callable[[Any], None]:
    def moved(route: Any) -> None:
        route.continue_(url=address)

    return moved


def test_heads_of_an_edge_and_why_one_looks_there(
    explorer: str, open_page: Any, inference: Any, goal: int
) -> None:
    page = open_page(f"{explorer}/graphs/{STEERABLE}?node={goal}")
    page.locator(f"#node[data-shown='{goal}']").wait_for()
    part = opened(page)
    # An edge from another token, as a head may look back along it.
    choices = part.locator("option").all()
    earlier = next(
        each
        for each in choices
        if int(each.get_attribute("data-from") or 99) < int(each.get_attribute("data-to") or -1)
    )
    edge = str(earlier.get_attribute("value"))
    between = [int(str(earlier.get_attribute(f"data-{name}"))) for name in ("to", "from")]
    part.get_by_label("edge").select_option(edge)
    part.get_by_role("button", name="Which heads carry it").press("Enter")
    tables = part.locator("[data-heads] table")
    until(page, lambda: tables.count() == 2)
    ((path, sent),) = inference.requests
    assert path == "/graph-heads" and sent["target"]["kind"] == "logit"
    assert sent["target"]["position"] == between[0] and sent["source"]["position"] == between[1]
    heads, layers = (each.inner_text() for each in tables.all())
    answer = heads_answer()
    for each in answer["heads"]:
        assert f"head {each['head']} of layer {each['layer']}" in heads
        assert signed(each["value"], 3) in heads
    for each in answer["layers"]:
        assert signed(each["heads"], 3) in layers and signed(each["bypass"], 3) in layers
        assert each["heads"] + each["bypass"] == answer["value"]
    assert f"The edge is {signed(answer['value'], 3)}." in part.inner_text()
    part.get_by_role("button", name="Why head 2 of layer 1 looks there").press("Enter")
    pairs = part.locator("[data-score] table").first
    pairs.wait_for()
    path, sent = inference.requests[-1]
    fields = ("layer", "head", "token", "source")
    assert path == "/graph-score" and [sent[name] for name in fields] == [1, 2, *between]
    scored = score_answer(0, 1, 0, 3)
    beyond = scored["score"] - scored["average"]
    words = part.locator("[data-score]").inner_text()
    assert percent(scored["weight"]) in words and signed(beyond, 3) in words
    rows = pairs.locator("tr").all_inner_texts()
    listed = sum(each["relative"] for each in scored["pairs"])
    assert signed(scored["pairs"][0]["relative"], 3) in rows[1]
    assert signed(beyond - listed, 3) in rows[2] and signed(beyond, 3) in rows[3]
    part.locator("[data-score] summary").press("Enter")
    assert not violations(page)
    # What was asked stands in a link, which fills the forms of the node's own page.
    link = part.locator("[data-score]").get_by_role("link", name="On a page of its own")
    wanted = f"1.2.{between[0]}.{between[1]}"
    assert parse_qs(urlsplit(str(link.get_attribute("href"))).query) == {"score": [wanted]}
    count = len(inference.requests)
    alone = open_page(f"{explorer}/graphs/{STEERABLE}/nodes/{goal}?heads={edge}&score={wanted}")
    part = alone.locator("#heads[open]")
    values = [part.locator(f"input[name={name}]").input_value() for name in fields]
    assert values == wanted.split(".") and part.get_by_label("edge").input_value() == edge
    assert len(inference.requests) == count  # Nothing runs before somebody says so.
    part.get_by_role("button", name="Why it looks there").click()
    part.locator("[data-score] table").first.wait_for()
    part.locator("input[name=layer]").fill("0")
    part.get_by_role("button", name="Why it looks there").click()
    until(alone, lambda: asked(alone)["score"] == [f"0{wanted[1:]}"])
    assert not violations(alone)


def test_faults_are_told_at_their_form(explorer: str, open_page: Any, goal: int) -> None:
    refused = ["Failed to load resource"]
    address = f"{explorer}/graphs/{STEERABLE}/nodes/{goal}"
    page = open_page(f"{address}?heads=999999-{goal}", allowed=refused)
    line = page.locator("[data-heads-form] .failed")
    button = page.get_by_role("button", name="Which heads carry it")
    button.click()
    line.filter(has_text="the graph has nodes 0 to").wait_for()
    for graph, words in ((UPLOADED, "was uploaded"), ("gone", "no graph")):
        # The graph changes while its page is open.
        page.route("**/heads", sent_to(f"{explorer}/api/v1/graphs/{graph}/heads"), times=1)
        button.click()
        line.filter(has_text=words).wait_for()
    assert page.locator("[data-heads] table").count() == 0
    assert httpx.get(f"{address}?score=1.2").status_code == 422


def test_no_forms_where_the_prompt_cannot_be_read_again(explorer: str, open_page: Any) -> None:
    for graph in (GRAPH, UPLOADED):
        page = open_page(f"{explorer}/graphs/{graph}/nodes/0")
        assert page.locator("#heads").count() == 0
