"""A drawing of what several attribution graphs have in common: layers from the bottom up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

from monosemy.figures import percent, plural, signed
from monosemy.specs.rest.common_graphs import Common, CommonEdge, CommonUnit
from monosemy.svg import drawing, words

Link = Callable[[CommonUnit], str | None]
"""Where a unit has a page."""

WIDTH, LEFT, TALL = 940, 64, 58
_NARROW = 360
"""Fits a telephone."""
_LETTER, _APART = 6.6, 16
FEATURES, TOKENS, EDGES = 30, 10, 80
"""That are drawn at most."""
_NAMED = 7
"""Units of a layer that have room for their labels."""
_LONGEST = 17
_LARGEST, _SMALLEST = 10.0, 3.0


def common_drawing(it: Common, link: Link, label: str) -> str:
    """The features of the largest shares, tokens below, what is explained above; wider edges carry
    more.  Dashed ones take away in most graphs."""
    shown = _shown(it)
    edges = [edge for edge in it.edges if edge.source in shown and edge.target in shown][:EDGES]
    layers = sorted({it.units[place].layer for place in shown})
    rows = {layer: [place for place in shown if it.units[place].layer == layer] for layer in layers}
    width = min(max([_NARROW, *(LEFT + _room(it, row) for row in rows.values())]), WIDTH)
    spots = _spots(rows, edges, width)
    height = TALL * len(layers) + 8
    parts = []
    for row, layer in enumerate(reversed(layers)):
        says = "tokens" if layer < 0 else f"layer {layer}"
        if any(it.units[place].kind == "goal" for place in rows[layer]):
            says = "goals"
        parts.append(words(2, TALL * row + TALL / 2 + 4, says))
    most = max((edge.flow.value for edge in edges), default=0.0) or 1.0
    parts += [_edge(edge, it, spots, most) for edge in reversed(edges)]
    largest = max((it.units[place].share.value for place in shown), default=0.0) or 1.0
    for place in shown:
        unit = it.units[place]
        named = len(rows[unit.layer]) <= _NAMED
        parts.append(_unit(unit, it.n, spots[place], largest, named, link(unit)))
    return drawing(width, height, "common", label, "".join(parts), "group")


def _shown(it: Common) -> list[int]:
    kept: list[int] = []
    for kind, most in (("feature", FEATURES), ("token", TOKENS), ("goal", 1)):
        own = [place for place, unit in enumerate(it.units) if unit.kind == kind]
        kept += own[:most]
    return kept


def _room(it: Common, row: Sequence[int]) -> int:
    """Width that the units of a layer take, with their labels where they have them."""
    longest = max((len(_short(it.units[place])) for place in row), default=0)
    each = _LETTER * longest if len(row) <= _NAMED else 0.0
    return round(len(row) * (max(each, 2 * _LARGEST) + _APART))


def _spots(
    rows: Mapping[int, Sequence[int]], edges: Sequence[CommonEdge], width: int
) -> dict[int, tuple[float, float]]:
    """From the bottom up; those of a layer in the order of where what feeds them stands."""
    spots: dict[int, tuple[float, float]] = {}
    for up, row in enumerate(rows.values()):
        own = sorted(row, key=lambda place: _middle(place, edges, spots, width))
        y = TALL * (len(rows) - 1 - up) + TALL / 2 - 4
        for at, place in enumerate(own):
            spots[place] = LEFT + (width - LEFT) * (at + 0.5) / len(own), y
    return spots


def _middle(
    place: int, edges: Sequence[CommonEdge], spots: dict[int, tuple[float, float]], width: int
) -> float:
    fed = [edge for edge in edges if edge.target == place and edge.source in spots]
    flow = sum(edge.flow.value for edge in fed)
    if flow <= 0:
        return width / 2
    return sum(spots[edge.source][0] * edge.flow.value for edge in fed) / flow


def _edge(edge: CommonEdge, it: Common, spots: dict[int, tuple[float, float]], most: float) -> str:
    (ax, ay), (bx, by) = spots[edge.source], spots[edge.target]
    half = (ay - by) / 2
    share = edge.flow.value / most
    css = "adds" if 2 * edge.positive >= edge.graphs else "takes"
    ends = it.units[edge.source].label, it.units[edge.target].label
    says = (
        f"{ends[0]} to {ends[1]}: {signed(edge.weight)} on average, in {edge.graphs} of"
        f" {plural(it.n, 'graph')}; {percent(edge.flow.value)} of the influence"
    )
    return (
        f'<path class="{css}" d="M{ax:.1f} {ay:.1f}C{ax:.1f} {ay - half:.1f} {bx:.1f}'
        f' {by + half:.1f} {bx:.1f} {by:.1f}" stroke-width="{0.7 + 4 * share:.2f}"'
        f' stroke-opacity="{0.35 + 0.6 * share:.2f}"><title>{escape(says)}</title></path>'
    )


def _unit(
    unit: CommonUnit, n: int, spot: tuple[float, float], largest: float, named: bool, to: str | None
) -> str:
    x, y = spot
    size = _SMALLEST + (_LARGEST - _SMALLEST) * (unit.share.value / largest) ** 0.5
    says = (
        f"{unit.label}: in {unit.graphs} of {plural(n, 'graph')}, "
        f"{percent(unit.share.value)} of the influence"
    )
    beyond = unit.chance is not None and unit.chance.q <= 0.05
    css = f"unit {unit.kind}" + (" beyond" if beyond else "")
    mark = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}"/>'
    if unit.kind != "feature":
        mark = (
            f'<rect x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size:.1f}"'
            f' height="{2 * size:.1f}"/>'
        )
    inner = f"<title>{escape(says)}</title>{mark}"
    if named:
        inner += words(x, y + size + 13, _short(unit), "middle")
    drawn = f'<g class="{css}">{inner}</g>'
    return drawn if to is None else f'<a href="{escape(to)}">{drawn}</a>'


def _short(unit: CommonUnit) -> str:
    text = unit.label.strip()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
