"""Comparisons: what chance gives is drawn beside what was found, pairs are those of REST."""

from __future__ import annotations

import re
import uuid
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from monosemy.specs.rest.comparisons import ComparisonView
from service.database.comparison_tables import Comparison
from service.database.session import transaction
from service.database.tables import Sae
from service.pages.comparison_figures import figures_of
from service.pages.format import fixed, number, percent
from tests.support.browser import here
from tests.support.compared_rows import COMPARISON, COPIES
from tests.support.library_rows import Library

HTML = {"Accept": "text/html"}
PATH = f"/comparisons/{COMPARISON}"


def rest(explorer: str, path: str, **query: Any) -> Any:
    answer = httpx.get(f"{explorer}/api/v1{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_compare_chance_drawn(explorer: str, open_page: Any) -> None:
    summary = rest(explorer, PATH)["summary"]
    page = open_page(explorer + PATH)
    drawing = page.locator("svg.against")
    null, histogram = summary["null"], summary["histogram"]
    says = drawing.get_attribute("aria-label")
    assert f"by chance {null['mean']:.2f}, at most {null['max']:.2f}" in says
    first, last = histogram["edges"][0], histogram["edges"][-1]
    left, right = 40, 460 - 8

    def at(value: float) -> float:
        return left + (right - left) * (value - first) / (last - first)

    band = drawing.locator("rect.band")
    start, wide = (float(band.get_attribute(name)) for name in ("x", "width"))
    assert start == pytest.approx(at(null["p05"]), abs=1)
    assert start + wide == pytest.approx(at(null["p95"]), abs=1)
    most = drawing.locator("line.null").get_attribute("x1")
    assert float(most) == pytest.approx(at(null["max"]), abs=1)
    bars = drawing.locator("rect.bar").all()
    tallest = max(histogram["counts"])
    assert len(bars) == len(histogram["counts"])
    heights = [float(bar.get_attribute("height")) for bar in bars]
    top = max(heights)
    for height, count in zip(heights, histogram["counts"], strict=True):
        assert height == pytest.approx(top * count / tallest, abs=1)


def test_figures_equal_rest(explorer: str, open_page: Any) -> None:
    summary = rest(explorer, PATH)["summary"]
    words = open_page(explorer + PATH).locator("table.figures").inner_text()
    rows = dict(line.split("\t", 1) for line in words.splitlines())
    assert summary["matched"] >= COPIES
    assert rows["partners"].startswith(number(summary["matched"]))
    assert percent(summary["matched_share_a"]) in rows["partners"]
    assert percent(summary["matched_share_b"]) in rows["partners"]
    for least, share in summary["matched_above"].items():
        assert rows[f"partners at least {least} alike"].startswith(percent(share))
    assert fixed(summary["mean_matched"]) in rows["partners, mean (median)"]
    assert rows["best in raw, mean"].startswith(fixed(summary["mean_best_a"]))
    assert f"by chance {fixed(summary['null']['mean'])}" in rows["best in raw, mean"]
    assert rows["above all that chance gives"].startswith(percent(summary["above_null"]))
    assert rows["nearest other in demo itself"].startswith(fixed(summary["within_a"]["mean"]))
    listed = httpx.get(f"{explorer}/comparisons", headers=HTML).text
    assert fixed(summary["null"]["mean"]) in listed and PATH in listed


@pytest.mark.parametrize("matched", [True, False])
def test_pairs_are_those_of_rest(explorer: str, open_page: Any, matched: bool) -> None:
    asked = {"matched": matched, "limit": 25, "min_value": 0.2}
    items = rest(explorer, f"{PATH}/matches", **asked)["items"]
    page = open_page(
        f"{explorer}{PATH}?matched={str(matched).lower()}&min_value=0.2", java_script_enabled=False
    )
    rows = page.locator("table.pairs tbody tr").all()
    assert len(rows) == len(items) > 0
    for row, item in zip(rows, items, strict=True):
        value, a, b = row.locator("td").all_inner_texts()[:3]
        assert value == fixed(item["value"])
        assert a.split()[0] == str(item["a"]["index"]) and (item["a"]["label"] or "") in a
        assert b == f"{item['b']['index']} not indexed"
    none = httpx.get(f"{explorer}{PATH}?min_value=1", headers=HTML).text
    assert "No pair is like that" in none


def test_two_features_side_by_side(explorer: str, open_page: Any) -> None:
    page = open_page(explorer + PATH)
    page.locator("table.pairs tbody tr").first.get_by_text("side by side").click()
    page.wait_for_url(re.compile(r"\?a=\d+&b=\d+#both$"))
    index = int(re.search(r"a=(\d+)", here(page)).group(1))  # type: ignore[union-attr]
    known = rest(explorer, f"/saes/demo/features/{index}")
    first, second = page.locator(".sides article").all()
    assert known["heading"]["text"] in first.inner_text()
    assert "not indexed" in second.inner_text()  # the other SAE has no index
    assert page.locator("table.pairs tr[aria-current]").count() == 1
    page.get_by_role("link", name="Close").click()
    assert page.locator(".sides").count() == 0
    page.goto(f"{explorer}{PATH}?a=3")
    known = rest(explorer, "/saes/demo/features/3")
    strongest = [each for each in known["examples"] if each["group"] == "top"]
    shown = page.locator(".sides article .examples li")
    assert shown.count() == len(strongest) > 0
    for line, example in zip(shown.all(), strongest, strict=True):
        assert line.locator(".act").inner_text() == number(example["activation"])
        fires = [value for value in example["activations"] if value > 0]
        assert line.locator("mark").count() == len(fires)


def test_states(explorer: str) -> None:
    def status(path: str) -> int:
        return httpx.get(explorer + path, headers=HTML).status_code

    assert status(f"/comparisons/{uuid.UUID(int=8)}") == 404
    assert status(f"{PATH}?b=8") == 422  # the second SAE has eight features
    assert status(f"{PATH}?a=x") == 422
    assert status("/comparisons?sae=none") == 404
    shown = httpx.get(f"{explorer}/comparisons?sae=raw", headers=HTML).text
    assert PATH in shown and 'href="/comparisons"' in shown


@pytest.mark.parametrize(
    "summary",
    [
        {},
        {"null": 3, "histogram": {"edges": [0, 1], "counts": "many"}, "matched_above": ["0.5"]},
        {"matched": True, "mean_best_a": "high", "null": {"mean": None}, "within_a": [1]},
    ],
)
def test_a_summary_of_another_form_is_read_as_not_known(
    explorer: str, module_engine: Engine, library: Library, summary: dict[str, Any]
) -> None:
    id = uuid.uuid4()
    with transaction(module_engine) as session:
        other = session.query(Sae).filter_by(name="raw").one()
        sides = {"sae_a": other.id, "sae_b": library.sae}
        made = Comparison(id=id, **sides, by="tokens", method="mutual", summary=summary)
        session.add(made)
    try:
        for path in (f"/comparisons/{id}", "/comparisons"):
            answer = httpx.get(explorer + path, headers=HTML)
            assert answer.status_code == 200
        assert figures_of_rest(explorer, id) == (None, None, [])
    finally:
        with transaction(module_engine) as session:
            session.delete(session.get_one(Comparison, id))


def figures_of_rest(explorer: str, id: uuid.UUID) -> tuple[Any, Any, Any]:
    figures = figures_of(ComparisonView.model_validate(rest(explorer, f"/comparisons/{id}")))
    return figures.matched, figures.best_a, figures.counts
