"""Plots of common kinds, drawn by ``monosemy.svg``: bars, curves, intervals, shares.

Every plot has a label with its figures.  ``service.pages.charts`` gives them to templates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from monosemy.figures import fixed, number
from monosemy.svg import drawing, link, words

Series = tuple[str, str, Sequence[tuple[float, float]]]
"""(css class, name, points)"""


def score_interval(
    value: float | None,
    low: float | None,
    high: float | None,
    baseline: float | None,
    *,
    chance: float | None = None,
    ends: tuple[float, float] = (0.0, 1.0),
    baseline_interval: tuple[float, float] | None = None,
    width: int = 130,
) -> str:
    """A score on its scale: the dot and its 95 % interval on the upper lane, the shuffled baseline
    as a hollow diamond on the lower, chance as a tick."""
    left, right = ends
    known = [x for x in (low, high, value, baseline, *(baseline_interval or ())) if x is not None]
    left, right = min([left, *known]), max([right, *known])

    def at(x: float) -> float:
        return 6 + (width - 12) * (x - left) / ((right - left) or 1.0)

    label = f"{fixed(value)}"
    if low is not None and high is not None:
        label += f", 95 % interval {fixed(low)} to {fixed(high)}"
    if baseline is not None:
        label += f", shuffled {fixed(baseline)}"
    parts = [f'<line class="rail" x1="6" x2="{width - 6}" y1="12" y2="12"/>']
    if chance is not None:
        parts.append(
            f'<line class="chance" x1="{at(chance):.1f}" x2="{at(chance):.1f}" y1="3" y2="21"/>'
        )
    if low is not None and high is not None:
        parts.append(f'<line class="own" x1="{at(low):.1f}" x2="{at(high):.1f}" y1="8" y2="8"/>')
    if value is not None:
        parts.append(f'<circle class="own" cx="{at(value):.1f}" cy="8" r="3.5"/>')
    if baseline_interval is not None:
        a, b = baseline_interval
        parts.append(f'<line class="null" x1="{at(a):.1f}" x2="{at(b):.1f}" y1="17" y2="17"/>')
    if baseline is not None:
        x = at(baseline)
        parts.append(
            f'<path class="null" d="M{x - 4:.1f} 17L{x:.1f} 13L{x + 4:.1f} 17L{x:.1f} 21Z"/>'
        )
    return drawing(width, 24, "interval", label, "".join(parts))


def bars(
    heights: Sequence[float],
    label: str,
    *,
    log: bool = False,
    titles: Sequence[str] = (),
    links: Sequence[str | None] = (),
    ticks: Sequence[tuple[float, str]] = (),
    width: int = 340,
    height: int = 120,
) -> str:
    """Bars side by side from the left; ``ticks``: (share of the width, words) below them.  On a log
    scale a bar of one is still seen.  ``links``: where each bar leads, in all its height."""
    most = max(heights, default=0) or 1.0
    base = height - (16 if ticks else 2)
    left = 34
    room = base - 8
    step = (width - left - 4) / max(len(heights), 1)

    def tall(value: float) -> float:
        if value <= 0:
            return 0.0
        return room * (math.log10(value + 1) / math.log10(most + 1) if log else value / most)

    parts = []
    powers = [10**i for i in range(int(math.log10(most + 1)) + 1)] if log else [most]
    for value in powers:
        y = base - tall(value)
        parts.append(words(left - 4, y + 4, number(value), "tick end"))
        parts.append(f'<line class="grid" x1="{left}" x2="{width - 4}" y1="{y:.1f}" y2="{y:.1f}"/>')
    for i, value in enumerate(heights):
        high, x = tall(value), left + i * step
        title = titles[i] if i < len(titles) else ""
        address = links[i] if i < len(links) else None
        hit = f'<rect class="hit" x="{x:.1f}" y="4" width="{step:.1f}" height="{base - 4}"/>'
        drawn = (
            f'{hit if address else ""}<rect class="bar" x="{x + 0.5:.1f}" y="{base - high:.1f}"'
            f' width="{max(step - 1, 0.5):.1f}" height="{high:.1f}">'
            + (f"<title>{escape(title)}</title></rect>" if title else "</rect>")
        )
        parts.append(link(address, title, drawn))
    for share, text in ticks:
        x = left + (width - left - 4) * share
        side = "end" if share > 0.95 else "start" if share < 0.05 else "middle"
        parts.append(words(x, height - 3, text, f"tick {side}"))
    parts.append(f'<line class="axis" x1="{left}" x2="{width - 4}" y1="{base}" y2="{base}"/>')
    role = "group" if any(links) else "img"
    return drawing(width, height, "bars", label, "".join(parts), role)


def against_chance(
    edges: Sequence[float],
    counts: Sequence[float],
    label: str,
    *,
    band: tuple[float, float] | None = None,
    most: float | None = None,
    width: int = 460,
    height: int = 180,
) -> str:
    """A histogram over ``edges``, one more than ``counts``; the ``band`` and the largest value
    ``most`` of what chance gives."""
    left, right, base = 40, width - 8, height - 20
    first, last = edges[0], edges[-1]
    top = max(counts, default=0) or 1.0

    def at(value: float) -> float:
        return left + (right - left) * (value - first) / ((last - first) or 1.0)

    parts = []
    if band is not None:
        low, high = (min(max(each, first), last) for each in band)
        long = max(at(high) - at(low), 1.5)
        title = f"<title>by chance {fixed(band[0])} to {fixed(band[1])}</title>"
        parts.append(
            f'<rect class="band" x="{at(low):.1f}" y="4" width="{long:.1f}" height="{base - 4}">'
            f"{title}</rect>"
        )
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        tall = (base - 10) * count / top
        title = escape(f"{fixed(low)} to {fixed(high)}: {number(count)}")
        parts.append(
            f'<rect class="bar" x="{at(low) + 0.5:.1f}" y="{base - tall:.1f}"'
            f' width="{max(at(high) - at(low) - 1, 0.5):.1f}" height="{tall:.1f}">'
            f"<title>{title}</title></rect>"
        )
    if most is not None and first <= most <= last:
        title = f"<title>largest by chance {fixed(most)}</title>"
        parts.append(
            f'<line class="line null" x1="{at(most):.1f}" x2="{at(most):.1f}" y1="4" y2="{base}">'
            f"{title}</line>"
        )
    parts.append(words(left - 4, 14, number(top), "tick end"))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = first + (last - first) * share
        side = "end" if share == 1 else "start" if share == 0 else "middle"
        parts.append(words(at(value), height - 4, fixed(value), f"tick {side}"))
    parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{base}" y2="{base}"/>')
    return drawing(width, height, "against", label, "".join(parts))


def share_bar(share: float, label: str, css: str = "", width: int = 40) -> str:
    """A bar of a table's cell, as long as its share of the widest."""
    long = max(0.0, min(1.0, share)) * width
    rect = f'<rect x="0" y="1" width="{long:.1f}" height="8"/>'
    return drawing(width, 10, f"share {css}", label, rect)


def curves(
    series: Sequence[Series],
    label: str,
    *,
    log: bool = False,
    floor: float | None = None,
    unit: str = "",
    width: int = 460,
    height: int = 200,
) -> str:
    """Lines over a common axis.  Points that cannot be drawn are left out; y begins where the data
    does, or lower at ``floor``, and goes by its logarithm with ``log``.  ``unit`` is that of x."""

    def scaled(y: float) -> float:
        return math.log10(y) if log else y

    clean = [
        (css, name, [(x, scaled(y)) for x, y in points if _drawable(x, y, log)])
        for css, name, points in series
    ]
    every = [point for _, _, points in clean for point in points]
    left, right, top, base = 56, width - 8, 8, height - 22
    axes = "".join(
        f'<line class="axis" x1="{left}" y1="{base}" x2="{x}" y2="{y}"/>'
        for x, y in ((right, base), (left, top))
    )
    if not every:
        return drawing(width, height, "curves", f"{label}: no readings", axes)
    x0, x1 = min(x for x, _ in every), max(x for x, _ in every)
    y0, y1 = min(y for _, y in every), max(y for _, y in every)
    y0 = y0 if floor is None or log else min(floor, y0)
    if y1 - y0 <= 1e-12:  # one value: in the middle, or on the floor
        y0, y1 = (y0 - 0.5, y1 + 0.5) if floor is None or log else (y0, y0 + 1.0)

    def at(x: float, y: float) -> str:
        across = left + (right - left) * (x - x0) / ((x1 - x0) or 1.0)
        return f"{across:.1f} {base - (base - top) * (y - y0) / (y1 - y0):.1f}"

    parts = [axes]
    for share in (0.0, 0.5, 1.0):
        y = base - (base - top) * share
        value = y0 + (y1 - y0) * share
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(words(left - 4, y + 4, number(10**value if log else value), "tick end"))
    parts.append(words(left, height - 6, number(x0), "tick start"))
    end = f"{number(x1)} {unit}" if unit else number(x1)
    parts.append(words(right, height - 6, end, "tick end"))
    for css, name, points in clean:
        if points:
            line = "L".join(at(x, y) for x, y in points)
            title = f"<title>{escape(name)}</title>"
            parts.append(f'<path class="line {css}" d="M{line}">{title}</path>')
    return drawing(width, height, "curves", label, "".join(parts))


def _drawable(x: float, y: float, log: bool) -> bool:
    return math.isfinite(x) and math.isfinite(y) and (y > 0 or not log)
