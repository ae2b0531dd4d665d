"""Features changed from a graph's page: what is asked for is REST's, and told as it answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from monosemy.figures import fixed, percent, signed
from tests.support.browser import asked, here, holds, until, violations
from tests.support.graph_rows import GRAPH, STEERABLE, steered


@pytest.fixture(autouse=True)
def answering(inference: Any) -> Iterator[None]:
    inference.answers["/graph-steering"] = steered()
    inference.requests.clear()
    yield
    inference.away = False


def features(explorer: str, count: int) -> list[dict[str, Any]]:
    path = f"{explorer}/api/v1/graphs/{STEERABLE}/nodes?kind=feature&limit={count}"
    return list(httpx.get(path).json()["items"])


def test_a_feature_is_changed_and_the_answer_told(
    explorer: str, open_page: Any, inference: Any
) -> None:
    first, second = features(explorer, 2)
    page = open_page(f"{explorer}/graphs/{STEERABLE}?node={first['node']}&pinned={second['node']}")
    page.locator(f"#node[data-shown='{first['node']}']").wait_for()
    assert not page.locator("#steering").is_visible()
    page.locator("#node").get_by_role("button", name="Change it in this prompt").click()
    rows = page.locator("[data-edits] li")
    until(page, lambda: rows.count() == 1)
    page.get_by_role("button", name="Change them in this prompt").click()
    until(page, lambda: rows.count() == 2)
    # By keys alone: the first row's choice of what is done has the focus.
    page.locator("[data-edits] select").first.focus()
    page.keyboard.press("m")  # multiply by
    strength = page.get_by_label("How far").first
    until(page, lambda: strength.input_value() == "2")
    strength.fill("0.5")
    page.get_by_label("Where").first.select_option("every")
    page.get_by_label("what stays as it was").select_option("mlps")
    node, other = first["node"], second["node"]
    until(page, lambda: asked(page).get("edit") == [f"{node}:scale:0.5:every", f"{other}:ablate"])
    assert asked(page)["held"] == ["mlps"]
    page.get_by_role("button", name="Run the prompt").click()
    tables = page.locator("[data-steered] table")
    until(page, lambda: tables.count() == 3)
    ((path, sent),) = inference.requests
    assert path == "/graph-steering" and sent["held"] == "mlps"
    assert [(e["mode"], e["strength"], e["position"]) for e in sent["edits"]] == [
        ("scale", 0.5, "every"),
        ("ablate", None, second["position"]),
    ]
    answer = steered()
    goals, tokens, moved = (each.inner_text() for each in tables.all())
    for each in answer["goals"]:
        real = each["after"] - each["before"]
        for figure in (fixed(each["before"]), signed(each["predicted"]), signed(real)):
            assert figure in goals
    for each in answer["tokens"]:
        assert fixed(each["logit_after"]) in tokens
        assert percent(each["probability_after"]) in tokens
    assert "<b>" in tokens and signed(-1.75) in moved and signed(-1.5) in moved
    assert tables.nth(1).locator("svg.pair").first.get_attribute("aria-label") == (
        f"before {signed(5.25)}, after {signed(3.0)}"
    )
    assert not violations(page)
    # The address alone leads to the same choice.
    again = open_page(here(page))
    again.locator("[data-edits] li").nth(1).wait_for()
    holds(again.get_by_label("How far").first, "0.5")
    holds(again.get_by_label("what stays as it was"), "mlps")
    again.get_by_role("button", name="alone").first.click()
    until(again, lambda: asked(again)["edit"] == [f"{other}:ablate"])


def test_what_cannot_be_run_is_said(explorer: str, open_page: Any, inference: Any) -> None:
    """No control where an SAE is gone; an answer of 503 is told, and asked for again."""
    gone = open_page(f"{explorer}/graphs/{GRAPH}?pinned=0&edit=0:ablate")
    gone.locator("[data-subgraph] svg").wait_for()
    assert gone.locator("[data-edit], [data-edit-pins]").count() == 0
    assert not gone.locator("#steering").is_visible()
    inference.away = True
    (node,) = (each["node"] for each in features(explorer, 1))
    page = open_page(
        f"{explorer}/graphs/{STEERABLE}?edit={node}:ablate&edit=x:ablate&edit=1:none",
        allowed=["Failed to load resource"],
    )
    page.get_by_role("button", name="Run the prompt").click()
    page.locator("#steering .failed", has_text="cannot be reached").wait_for()
    assert page.locator("[data-edits] li").count() == 1
    inference.away = False
    page.get_by_role("button", name="Try now").click()
    page.locator("[data-steered] table").first.wait_for()
