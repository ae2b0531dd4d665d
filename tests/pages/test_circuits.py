"""Circuits: grid and curves are those of REST; edges are drawn for a head that is chosen."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from service.pages.format import fixed
from tests.support.browser import scrolls_sideways, violations
from tests.support.circuit_rows import BARE, CIRCUIT, made_up

PATH = f"/circuits/{CIRCUIT}"


def test_the_grid_has_every_head(explorer: str, open_page: Any) -> None:
    made = made_up()
    page = open_page(explorer + PATH)
    grid = page.locator("svg.heads").first
    assert grid.locator("rect").count() == len(made.heads) == 48
    assert grid.locator("rect.found").count() == made.found
    assert grid.locator("circle.known").count() == sum(bool(h.known) for h in made.heads)
    assert grid.locator(".edge").count() == 0
    best = max(made.heads, key=lambda each: each.z)
    name = f"{best.layer}.{best.head}"
    cell = grid.get_by_label(f"{name}, z {fixed(best.z)}")
    assert "u6" in (cell.locator("rect").get_attribute("class") or "")
    cell.click()
    page.wait_for_url(f"**{PATH}?head={name}")
    own = [e for e in made.edge_list if (best.layer, best.head) in (e.source, e.target)]
    assert page.locator("svg.heads .edge").count() == len(own) > 0
    assert page.locator("svg.heads rect.chosen").count() == 1
    assert page.locator("table.edges tbody tr").count() == min(len(own), 10)
    page.get_by_role("link", name=f"Close {name}").click()
    page.get_by_label("edges").select_option("highest")
    page.get_by_role("button", name="Draw").click()
    page.wait_for_url("**edges=highest**")
    assert page.locator("svg.heads .edge").count() == 60


def test_the_curves_are_the_figures(explorer: str, open_page: Any) -> None:
    check = made_up().causal
    assert check is not None
    page = open_page(explorer + PATH)
    kept, removed = page.locator("#causal svg.curves").all()
    for drawing, points in ((kept, check.kept), (removed, check.removed)):
        says = drawing.get_attribute("aria-label")
        for point in points:
            assert f"{point.heads} heads: {fixed(point.top.value)}" in says
        assert drawing.locator("circle.dot.own").count() == len(points)
        dots = [float(d.get_attribute("cy")) for d in drawing.locator("circle.dot.own").all()]
        values = [point.top.value for point in points]
        for a, b, c in zip(range(4), range(1, 5), range(2, 6), strict=True):  # one linear scale
            across = (dots[b] - dots[a]) / (values[b] - values[a])
            assert (dots[c] - dots[b]) / (values[c] - values[b]) == pytest.approx(across, rel=0.05)
        rods = drawing.locator("line.rod.own").all()
        for rod, dot in zip(rods, dots, strict=True):
            ends = sorted(float(rod.get_attribute(name)) for name in ("y1", "y2"))
            assert ends[0] < dot < ends[1]
    text = page.locator("#causal").inner_text()
    assert fixed(check.clean.value) in text and "took no part in finding" in text


def test_what_is_missing_is_said(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/circuits/{BARE}")
    text = page.inner_text("main")
    assert "There is no check by ablation: it was not asked for." in text
    assert "Edges were not scored." in text and "ask for more" in text
    assert page.locator("svg.heads a").count() == 0
    assert "known circuit" not in text
    empty = open_page(explorer + "/circuits?model=tiny-demo")
    assert "No circuits are found yet in tiny-demo" in empty.inner_text("main")


def test_names_are_text(explorer: str) -> None:
    answer = httpx.get(explorer + PATH)
    assert "&lt;b&gt;Kyle&lt;/b&gt;" in answer.text and "<b>Kyle" not in answer.text
    assert len(answer.content) < 60_000


@pytest.mark.parametrize("query", ["head=99.0", "head=first", "head=1", "edges=many"])
def test_heads_that_there_are_not(explorer: str, query: str) -> None:
    answer = httpx.get(f"{explorer}{PATH}?{query}", headers={"Accept": "text/html"})
    assert answer.status_code == 422


def test_it_reads_well_everywhere(explorer: str, open_page: Any) -> None:
    for options in ({}, {"viewport": {"width": 390, "height": 800}}, {"color_scheme": "dark"}):
        page = open_page(f"{explorer}{PATH}?edges=highest", **options)
        assert violations(page) == []
        assert not scrolls_sideways(page)
