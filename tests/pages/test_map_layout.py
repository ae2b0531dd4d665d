"""The layout on the map: how faithful it is stands on the plot; kinds have colours and names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import Engine

from monosemy.index.evidence_label import LABEL_KINDS
from service.database.session import transaction
from service.database.tables import Sae
from tests.pages.test_map import FIRST_MS, MANY, REDRAW_MS, drawn, lasso, put_on_a_list
from tests.support.browser import holds, scrolls_sideways, until, violations
from tests.support.layout_rows import laid_out
from tests.support.library_rows import Library

LAID_OUT = "/saes/demo/map?x=layout_x&y=layout_y"


@pytest.fixture
def places(module_engine: Engine, library: Library) -> Iterator[np.ndarray]:
    with laid_out(module_engine, library) as places:
        yield places


def percent(share: float) -> str:
    return f"{100 * share:.3g}\u2009%"


def spot(page: Any, place: np.ndarray) -> tuple[float, float]:
    """Where in the window a place of the layout lies."""
    view = json.loads(page.locator("#plot[data-view]").get_attribute("data-view"))
    box = page.locator("#plot").bounding_box()
    left, top, width, height = view["plot"]
    (west, east), (south, north) = view["x"], view["y"]
    place = place.astype(float).tolist()
    across = box["x"] + left + width * (place[0] - west) / (east - west)
    return across, box["y"] + top + height * (north - place[1]) / (north - south)


def test_how_faithful_it_is_stands_on_the_plot(
    explorer: str, open_page: Any, places: np.ndarray
) -> None:
    page = open_page(f"{explorer}/saes/demo/map")
    assert "features drawn" in drawn(page)
    holds(page.get_by_label("across"), "density")  # measured axes by default
    assert not page.locator("#faithful").is_visible()
    page.get_by_label("across").select_option("layout_x")
    page.locator("#faithful").wait_for()
    holds(page.get_by_label("upwards"), "layout_y")
    assert "48 features drawn. 12 are not: left out of the layout" in drawn(page, "48 features")
    kept = httpx.get(f"{explorer}/api/v1/saes/demo/layout").json()["faithfulness"]
    note = page.locator("#faithful").inner_text()
    for share in (kept["layout"]["value"], kept["layout"]["low"], kept["layout"]["high"]):
        assert percent(share) in note
    assert f"chance {percent(kept['chance'])}" in note and "n = 48" in note
    view = json.loads(page.locator("#plot[data-view]").get_attribute("data-view"))
    width, height = view["plot"][2:]
    (west, east), (south, north) = view["x"], view["y"]
    assert (east - west) / width == pytest.approx((north - south) / height)
    assert "x=layout_x&y=layout_y" in page.url
    assert not violations(page)
    page.get_by_label("across").select_option("density")
    page.locator("#faithful").wait_for(state="hidden")
    holds(page.get_by_label("upwards"), "maximum")


def test_lines_and_the_lasso_are_those_of_features(
    explorer: str, open_page: Any, places: np.ndarray
) -> None:
    page = open_page(f"{explorer}{LAID_OUT}")
    drawn(page)
    page.mouse.move(*spot(page, places[3]))
    page.locator("[data-looked]", has_text="Feature 3").wait_for()
    assert "tag people" in page.locator("#looked").inner_text()
    near = httpx.get(f"{explorer}/api/v1/saes/demo/features/3").json()["neighbours"]["cosine"]
    shown = page.locator("#looked li").all_inner_texts()
    assert [int(line.split()[1]) for line in shown] == [each["feature"] for each in near]
    inside = np.flatnonzero((places[:, 0] > 0) & (places[:, 1] > 0))
    assert 3 < len(inside) < 30
    page.keyboard.press("a")
    corners = [(0, 0), (25, 0), (25, 25), (0, 25)]
    page.keyboard.press("-")  # the corners are in sight
    lasso(page, [spot(page, np.array(each)) for each in corners])
    page.locator("#chosen-count", has_text=f"{len(inside)} features chosen").wait_for()
    assert put_on_a_list(page, explorer, "laid out") == inside.tolist()


def test_without_a_layout_it_says_how_to_make_one(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}{LAID_OUT}")
    assert "features drawn" in drawn(page), "other axes"
    holds(page.get_by_label("across"), "density")
    assert page.locator("option[value=layout_x]").count() == 0
    note = page.locator("#layout-note")
    assert "has no layout yet" in note.inner_text() and "monosemy layout demo" in note.inner_text()
    note.get_by_role("link", name="Make a layout").click()
    page.wait_for_url("**/runs/new?kind=layout&sae=demo")
    page.locator("#fields[data-ready]").wait_for(state="attached")
    holds(page.locator("#text"), "kind: layout\nsae: demo\n")
    assert page.locator('[data-path="perplexity"] input').count() == 1


def test_a_layout_of_other_weights_is_not_shown(
    explorer: str, open_page: Any, module_engine: Engine, library: Library, places: np.ndarray
) -> None:
    with transaction(module_engine) as session:
        sae = session.get_one(Sae, library.sae)
        before = sae.provenance
        sae.provenance = {**before, "weights": {"digest": "f" * 16, "parts": {}}}
    try:
        page = open_page(f"{explorer}{LAID_OUT}")
        assert "features drawn" in drawn(page)
        assert "made of other weights" in page.locator("#layout-note").inner_text()
        assert page.locator("option[value=layout_x]").count() == 0
    finally:
        with transaction(module_engine) as session:
            session.get_one(Sae, library.sae).provenance = before


def test_kinds_have_names_and_light_up_alone(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/saes/demo/map?colour=tag")
    drawn(page)
    button = page.locator(".kind", has_text="people")
    assert button.inner_text().split() == ["people", "2"]
    assert "none 58" in page.locator("#legend").inner_text()
    button.click()
    assert "2 lit up" in drawn(page, "lit up")
    assert page.locator(".kind", has_text="people").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Choose what is lit up").click()
    page.locator("#chosen-count", has_text="2 features chosen").wait_for()
    page.locator(".kind", has_text="people").click()
    until(page, lambda: "lit up" not in drawn(page))
    assert not violations(page)
    for colour in ("heading", "evidence_kind"):
        page.get_by_label("coloured by").select_option(colour)
        page.wait_for_url(f"**colour={colour}**")
        counts = page.locator(".kind .n")
        until(page, lambda: sum(map(int, counts.all_inner_texts())) == 60)  # noqa: B023
    assert not violations(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_a_phone(
    explorer: str, open_page: Any, places: np.ndarray, scheme: str
) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": scheme}
    page = open_page(f"{explorer}{LAID_OUT}&colour=evidence_kind", **phone)
    drawn(page)
    assert page.locator("#faithful").is_visible() and not scrolls_sideways(page)
    assert page.locator(".kind").count() >= 2
    plot, words = (page.locator(each).bounding_box() for each in ("canvas.points", "#faithful"))
    assert words["y"] + words["height"] <= plot["y"] + 1, "beside the points, not on them"
    assert not violations(page)


def test_rare_kinds_lie_above_common_ones(explorer: str, open_page: Any) -> None:
    """All features in one place, of which one has another colour: that is what is seen."""

    def answer(route: Any) -> None:
        kinds = np.zeros(60)
        kinds[0] = 2
        body = np.concatenate([np.ones(60), np.ones(60), kinds]).astype("<f4").tobytes()
        headers = {
            "X-Columns": "density,maximum,heading",
            "Content-Type": "application/octet-stream",
        }
        route.fulfill(body=body, headers=headers)

    page = open_page(f"{explorer}/saes/raw/map")
    page.route("**/api/v1/saes/demo/columns?*", answer)
    page.goto(f"{explorer}/saes/demo/map?colour=heading")
    assert "60 features drawn" in drawn(page)
    seen = page.evaluate(
        """() => {
          const canvas = document.querySelector("canvas.points");
          const at = [Math.round(canvas.width / 2), Math.round(canvas.height / 2), 1, 1];
          const pixel = [...canvas.getContext("2d").getImageData(...at).data.slice(0, 3)];
          const of = document.querySelector('.kind[data-kind="2"] rect').getAttribute("fill");
          return [`rgb(${pixel.join(" ")})`, of];
        }"""
    )
    assert seen[0] == seen[1]


def test_layout_100k(explorer: str, open_page: Any, places: np.ndarray) -> None:
    """As many features as a wide SAE has, of nine kinds: within the time that is allowed."""
    rng = np.random.default_rng(0)

    def answer(route: Any) -> None:
        names = route.request.url.split("column=")[1:]
        names = [each.split("&")[0] for each in names]
        columns = [
            rng.integers(0, len(LABEL_KINDS), MANY)
            if name == "evidence_kind"
            else 40 * rng.normal(size=MANY)
            for name in names
        ]
        body = np.concatenate(columns).astype("<f4").tobytes()
        headers = {"X-Columns": ",".join(names), "Content-Type": "application/octet-stream"}
        route.fulfill(body=body, headers=headers)

    page = open_page(f"{explorer}/saes/raw/map")
    page.route("**/api/v1/saes/demo/columns?*", answer)
    page.goto(f"{explorer}{LAID_OUT}&colour=evidence_kind")
    assert "100,000 features drawn" in drawn(page, "100,000")
    page.locator(".kind").first.click()
    assert "lit up" in drawn(page, "lit up")
    for _ in range(6):
        page.keyboard.press("+")
        page.keyboard.press("-")
    spent = page.evaluate("performance.getEntriesByName('scatter').map((each) => each.duration)")
    assert len(spent) >= 12
    assert min(spent[:3]) <= FIRST_MS and min(spent[1:]) <= REDRAW_MS
