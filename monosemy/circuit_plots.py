"""Drawings of a circuit: heads as a grid of layers and heads, and answers against heads kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from monosemy.figures import fixed, number, plural
from monosemy.svg import drawing, words
from monosemy.ticks import covering

CELL = 26
_LEFT, _TOP = 34, 20
_STEPS = 6
"""Shades on each side of 0."""
_FULL = 6.0
"""|z| from which the shade is full, where no head has more."""
MOST_LINKED = 400
"""Cells that are links; of more heads only those that were found, since a page is to stay small."""


@dataclass(frozen=True)
class GridHead:
    """A cell of the grid."""

    layer: int
    head: int
    z: float
    found: bool
    known: bool


Ends = tuple[tuple[int, int], tuple[int, int]]
"""(layer, head) of where an edge begins and ends."""


def head_grid(
    heads: Sequence[GridHead],
    edges: Sequence[tuple[Ends, float]] = (),
    chosen: tuple[int, int] | None = None,
    links: Mapping[tuple[int, int], str] | None = None,
) -> str:
    """Layers from left to right, heads from top to bottom; the shade is z.  A frame marks those
    that pass the false discovery rate, a dot those of the known circuit.  ``edges`` with their z
    are lines; ``links`` are addresses by (layer, head)."""
    layers = sorted({each.layer for each in heads})
    column = {layer: place for place, layer in enumerate(layers)}
    count = 1 + max(each.head for each in heads)
    full = max([_FULL, *(abs(each.z) for each in heads)])
    width, height = _LEFT + CELL * len(layers) + 40, _TOP + CELL * count + 22

    def middle(end: tuple[int, int]) -> tuple[float, float]:
        return _LEFT + CELL * (column[end[0]] + 0.5), _TOP + CELL * (end[1] + 0.5)

    parts = [words(2, 12, "head"), words(width - 2, height - 8, "layer", "end")]
    for head in range(0, count, 1 if count <= 16 else 4):
        parts.append(words(_LEFT - 6, _TOP + CELL * (head + 0.5) + 4, str(head), "end"))
    for place, layer in enumerate(layers):
        if len(layers) <= 16 or place % 2 == 0:
            x = _LEFT + CELL * (place + 0.5)
            parts.append(words(x, height - 8, str(layer), "middle"))
    many = len(heads) > MOST_LINKED
    for each in heads:
        drawn = _cell(each, column[each.layer], full, chosen == (each.layer, each.head))
        address = (links or {}).get((each.layer, each.head))
        says = f"{each.layer}.{each.head}, z {fixed(each.z)}"
        says += ", found" * each.found + ", known" * each.known
        if address is None or (many and not each.found):
            parts.append(drawn)
        else:
            parts.append(f'<a href="{escape(address)}" aria-label="{says}">{drawn}</a>')
    most = max([abs(z) for _, z in edges], default=1.0) or 1.0
    for (source, target), z in edges:
        (x1, y1), (x2, y2) = middle(source), middle(target)
        # Bent, so that edges along a row do not lie on one another.
        bend = f"{(x1 + x2) / 2:g} {(y1 + y2) / 2 - (x2 - x1) / 6:g}"
        opacity = 0.25 + 0.75 * abs(z) / most
        parts.append(
            f'<path class="edge" d="M{x1:g} {y1:g}Q{bend} {x2:g} {y2:g}"'
            f' stroke-opacity="{opacity:.2f}"/>'
        )
    found = sum(each.found for each in heads)
    label = f"{plural(len(layers), 'layer')} of {plural(count, 'head')}, {found} found"
    if any(each.known for each in heads):
        label += f", {sum(each.known for each in heads)} known"
    if edges:
        label += f", {plural(len(edges), 'edge')} drawn"
    return drawing(width, height, "heads", label, "".join(parts), "group" if links else "img")


def _cell(each: GridHead, column: int, full: float, chosen: bool) -> str:
    x, y = _LEFT + CELL * column + 1, _TOP + CELL * each.head + 1
    step = min(_STEPS, math.ceil(_STEPS * abs(each.z) / full - 1e-9))
    shade = f"{'u' if each.z > 0 else 'd'}{step}" if step else "u0"
    marks = " found" * each.found + " chosen" * chosen
    size = CELL - 2
    drawn = f'<rect class="{shade}{marks}" x="{x}" y="{y}" width="{size}" height="{size}"/>'
    if each.known:
        drawn += f'<circle class="known" cx="{x + size / 2:g}" cy="{y + size / 2:g}" r="3"/>'
    return drawn


@dataclass(frozen=True)
class Reading:
    """A figure with its interval at some x."""

    x: float
    value: float
    low: float
    high: float


def interval_curves(
    series: Sequence[tuple[str, str, Sequence[Reading]]],
    rules: Sequence[tuple[str, float]],
    label: str,
    unit: str = "",
    width: int = 460,
    height: int = 230,
) -> str:
    """Lines with an upright interval at each reading, x by its logarithm; ``rules`` are level
    lines, written at the right.  ``series``: (css class, name, readings)."""
    left, right, top, base = 44, width - 78, 10, height - 26
    readings = [each for _, _, own in series for each in own]
    levels = [value for _, value in rules]
    ticks = covering(
        min([0.0, *(each.low for each in readings), *levels]),
        max([0.0, *(each.high for each in readings), *levels]),
    )
    xs = sorted({each.x for each in readings})
    first, last = math.log(xs[0]), math.log(xs[-1])

    def at(x: float) -> float:
        return left + 8 + (right - left - 16) * (math.log(x) - first) / ((last - first) or 1.0)

    def up(y: float) -> float:
        return base - (base - top) * (y - ticks[0]) / (ticks[-1] - ticks[0])

    parts = [
        f'<line class="axis" x1="{left}" y1="{base}" x2="{right}" y2="{base}"/>'
        f'<line class="axis" x1="{left}" y1="{base}" x2="{left}" y2="{top}"/>'
    ]
    for value in ticks:
        y = up(value)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(words(left - 4, up(value) + 4, number(value), "tick end"))
    for place, x in enumerate(xs):
        if place % 2 == 0 or len(xs) <= 6:
            parts.append(words(at(x), height - 8, number(x), "tick middle"))
    if unit:
        parts.append(words(right + 6, height - 8, unit))
    placed: list[float] = []
    for name, value in rules:
        y = up(value)
        parts.append(f'<line class="chance" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        down = y + 4 + (14 if any(abs(y - other) < 13 for other in placed) else 0)
        parts.append(words(right + 6, down, name))
        placed.append(y)
    for css, name, own in series:
        line = "L".join(f"{at(each.x):.1f} {up(each.value):.1f}" for each in own)
        parts.append(f'<path class="line {css}" d="M{line}"><title>{escape(name)}</title></path>')
        for each in own:
            x = at(each.x)
            parts.append(
                f'<line class="rod {css}" x1="{x:.1f}" x2="{x:.1f}"'
                f' y1="{up(each.low):.1f}" y2="{up(each.high):.1f}"/>'
                f'<circle class="dot {css}" cx="{x:.1f}" cy="{up(each.value):.1f}" r="3"/>'
            )
    return drawing(width, height, "curves", label, "".join(parts))
