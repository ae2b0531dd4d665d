"""The grid of heads and the curves, by their figures."""

from __future__ import annotations

import re

from monosemy.circuit_plots import MOST_LINKED, GridHead, Reading, head_grid, interval_curves


def grid(layers: int, heads: int) -> tuple[list[GridHead], dict[tuple[int, int], str]]:
    cells = [
        GridHead(layer, head, z=layer - head, found=layer == head, known=head == 0)
        for layer in range(layers)
        for head in range(heads)
    ]
    return cells, {(each.layer, each.head): f"?head={each.layer}&x" for each in cells}


def test_small_grids_are_links() -> None:
    cells, links = grid(3, 4)
    drawn = head_grid(cells, [(((0, 0), (2, 3)), 4.0)], (1, 2), links)
    assert drawn.count("<a ") == drawn.count("<rect") == 12
    assert drawn.count(" found") == 3 + 3 + 1, "classes, names of links, the label"
    assert drawn.count('class="edge"') == 1 and drawn.count(" chosen") == 1
    assert 'href="?head=0&amp;x"' in drawn
    assert "3 layers of 4 heads, 3 found, 3 known, 1 edge drawn" in drawn
    assert re.search(r'class="u2" x="\d+" y="\d+"', drawn), "z 2 of 6"
    assert "<a " not in head_grid(cells)


def test_large_grids_stay_small() -> None:
    cells, links = grid(32, 32)
    assert len(cells) > MOST_LINKED
    drawn = head_grid(cells, (), None, links)
    assert drawn.count("<rect") == 1024 and drawn.count("<a ") == 32
    assert len(drawn) < 80_000


def test_curves_hold_all_intervals() -> None:
    readings = [Reading(1, 1.0, 0.5, 1.5), Reading(10, 2.0, 1.8, 2.2), Reading(100, 3, -4, 9)]
    drawn = interval_curves([("own", "<top>", readings)], [("all", 4.0)], 'a "label"')
    ys = [float(y) for y in re.findall(r' y[12]="([-\d.]+)"', drawn)]
    assert min(ys) >= 0 and max(ys) <= 230
    xs = [float(x) for x in re.findall(r'cx="([\d.]+)"', drawn)]
    assert abs((xs[1] - xs[0]) - (xs[2] - xs[1])) < 0.2, "by the logarithm"
    assert "&lt;top&gt;" in drawn and "&quot;label&quot;" in drawn
