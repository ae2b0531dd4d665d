"""Where nodes of attention stand in a graph's drawing."""

from __future__ import annotations

from typing import Any

import httpx

from service.pages.static import static_path
from tests.support.graph_rows import GRAPH

_LAID = """async ([layout, drawing]) => {
  const { columnsOf, laidOut } = await import(layout);
  const graph = columnsOf(drawing);
  const { x, y, rows } = laidOut(graph, 800, 600);
  return { x: [...x], y: [...y], rows };
}"""


def test_attention_has_rows_of_its_own_below_its_layers_mlp(explorer: str, open_page: Any) -> None:
    it = httpx.get(f"{explorer}/api/v1/graphs/{GRAPH}/drawing").json()
    page = open_page(f"{explorer}/models")
    script = explorer + static_path("pages/graph_layout.js")
    without = page.evaluate(_LAID, [script, it])
    assert len(without["rows"]) == it["layers"] + 2
    inner = [i for i, kind in enumerate(it["kind"]) if kind in ("feature", "error")]
    own = [i for i in inner if it["layer"][i] == 1][::2]
    for i in own:
        it["branch"][i] = "attention"
    laid = page.evaluate(_LAID, [script, it])
    rows = {(row["layer"], row["attention"]): row["y"] for row in laid["rows"]}
    assert len(rows) == len(laid["rows"]) == it["layers"] + 3
    # From the bottom up, that is by less and less y.
    order = [(0, False), (1, True), (1, False), (2, False)]
    assert [rows[each] for each in order] == sorted((rows[each] for each in order), reverse=True)
    for i in inner:
        at = rows[it["layer"][i], it["branch"][i] == "attention"]
        assert min(rows.values(), key=lambda y: abs(y - laid["y"][i])) == at
    assert len({(laid["x"][i], laid["y"][i]) for i in inner}) == len(inner)
    page.route("**/drawing*", lambda route: route.fulfill(json=it))
    page.goto(f"{explorer}/graphs/{GRAPH}?node={it['node'][own[0]]}")
    page.locator("#said", has_text="attention of layer 1").wait_for()
