"""Plots of common kinds, drawn by ``monosemy.svg``: bars, curves, intervals, shares.

Every plot has a label with its figures.  ``service.pages.charts`` gives them to templates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from monosemy.figures import fixed, interval, number
from monosemy.svg import drawing, link, words
from monosemy.ticks import Span, covering, covering_log

Series = tuple[str, str, Sequence[tuple[float, float]]]
"""(css class, name, points)"""


def score_interval(
    value: float | None,
    low: float | None,
    high: float | None,
    baseline: float | None,
    *,
    chance: float | None = None,
    ends: Span = (0.0, 1.0),
    baseline_interval: Span | None = None,
    width: int = 130,
    labelled: bool = False,
    beside: str = "shuffled",
) -> str:
    """A score on its scale: the dot and its 95 % interval on the upper lane, the baseline, which is
    what ``beside`` calls it, as a hollow diamond on the lower, chance as an upright line, round
    values as ticks, written below where it is ``labelled``.  The scale is ``ends``, wider where a
    value lies outside."""
    known = [x for x in (low, high, value, baseline, *(baseline_interval or ())) if x is not None]
    scale = _ScoreScale.over(ends, [*known, *([] if chance is None else [chance])], width)
    at = scale.at
    label = f"{fixed(value)}"
    if low is not None and high is not None:
        label += f", 95 % interval {fixed(low)} to {fixed(high)}"
    if baseline is not None:
        label += f", {beside} {fixed(baseline)}"
    if chance is not None:
        label += f", chance {fixed(chance)}"
    parts = [scale.rail(12, chance)]
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
    if labelled:
        parts.append(scale.words(33, chance))
    return drawing(width, 36 if labelled else 24, "interval", label, "".join(parts))


def score_axis(ends: Span, chance: float | None = None, width: int = 130) -> str:
    """The scale of ``score_interval`` for the head of a column."""
    scale = _ScoreScale.over(ends, [] if chance is None else [chance], width)
    label = f"from {number(scale.ticks[0])} to {number(scale.ticks[-1])}"
    if chance is not None:
        label += f", chance {fixed(chance)}"
    return drawing(width, 17, "interval axis", label, scale.words(11, chance))


def score_span(values: Iterable[float | None]) -> Span:
    """The ends of a common scale for scores without bounds: round, 0 in it."""
    known = [0.0, *(each for each in values if each is not None and math.isfinite(each))]
    ticks = covering(min(known), max(known), 2)
    return ticks[0], ticks[-1]


def interval_key(chance: str = "chance") -> str:
    """What the marks of ``score_interval`` are."""
    parts = (
        (
            "value and its 95 % interval",
            '<line class="own" x1="1" x2="23" y1="7" y2="7"/>'
            '<circle class="own" cx="12" cy="7" r="3.5"/>',
        ),
        ("shuffled baseline", '<path class="null" d="M8 7L12 3L16 7L12 11Z"/>'),
        (chance, '<line class="chance" x1="12" x2="12" y1="0" y2="14"/>'),
    )
    shown = (
        f'<span><svg class="interval" viewBox="0 0 24 14" width="24" height="14"'
        f' aria-hidden="true">{mark}</svg> {escape(name)}</span>'
        for name, mark in parts
    )
    return f'<div class="key">{"".join(shown)}</div>'


@dataclass(frozen=True)
class _ScoreScale:
    """Where a score lies in a drawing of this width, and what is written along it."""

    ticks: list[float]
    width: int

    @classmethod
    def over(cls, ends: Span, known: Sequence[float], width: int) -> _ScoreScale:
        low, high = min([ends[0], *known]), max([ends[1], *known])
        return cls(covering(low, high, 2), width)

    def at(self, x: float) -> float:
        left, right = self.ticks[0], self.ticks[-1]
        return 6 + (self.width - 12) * (x - left) / (right - left)

    def rail(self, y: float, chance: float | None) -> str:
        drawn = f'<line class="rail" x1="6" x2="{self.width - 6}" y1="{y}" y2="{y}"/>'
        for each in self.ticks:
            x = f"{self.at(each):.1f}"
            drawn += f'<line class="notch" x1="{x}" x2="{x}" y1="{y - 3}" y2="{y + 3}"/>'
        if chance is not None:
            x = f"{self.at(chance):.1f}"
            drawn += f'<line class="chance" x1="{x}" x2="{x}" y1="{y - 11}" y2="{y + 11}"/>'
        return drawn

    def words(self, y: float, chance: float | None) -> str:
        """At its ends, and at chance or else in the middle, where there is room."""
        first, *inner, last = self.ticks
        shown = [first, *(each for each in inner if each == chance or len(inner) == 1), last]
        sides = {shown[0]: "start", shown[-1]: "end"}
        return "".join(
            words(
                self.at(each) + {"start": -6, "end": 6}.get(sides.get(each, ""), 0),
                y,
                number(each),
                f"tick {sides.get(each, 'middle')}",
            )
            for each in shown
        )


def dots(
    parts: Sequence[tuple[str, float | None, float | None, float | None, int | None]],
    label: str,
    *,
    ends: Span = (0.0, 1.0),
    chance: float | None = None,
    width: int = 300,
    height: int = 96,
) -> str:
    """Values side by side, each with its interval: (name, value, low, high, n); what has no value
    has a dash in its place."""
    known = [x for _, value, low, high, _ in parts for x in (value, low, high) if x is not None]
    ticks = covering(min([ends[0], *known]), max([ends[1], *known]), 2)
    left, right, top, base = 34, width - 6, 6, height - 20
    step = (right - left) / max(len(parts), 1)

    def at(y: float) -> float:
        return base - (base - top) * (y - ticks[0]) / (ticks[-1] - ticks[0])

    drawn = []
    for each in ticks:
        y = at(each)
        drawn.append(words(left - 5, y + 4, number(each), "tick end"))
        drawn.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
    if chance is not None:
        y = at(chance)
        drawn.append(f'<line class="chance" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
    for i, (name, value, low, high, n) in enumerate(parts):
        x = left + step * (i + 0.5)
        drawn.append(words(x, height - 6, name, "tick middle"))
        if value is None:
            drawn.append(words(x, (top + base) / 2, "–", "tick middle"))
            continue
        says = f"{name}: {fixed(value)} {interval(low, high)}" + (f", n {n}" if n else "")
        rod = ""
        if low is not None and high is not None:
            rod = (
                f'<line class="rod own" x1="{x:.1f}" x2="{x:.1f}" y1="{at(low):.1f}"'
                f' y2="{at(high):.1f}"/>'
            )
        drawn.append(
            f"<g><title>{escape(says)}</title>{rod}"
            f'<circle class="dot own" cx="{x:.1f}" cy="{at(value):.1f}" r="3.5"/></g>'
        )
    return drawing(width, height, "dots", label, "".join(drawn))


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
    """Lines over a common axis.  Points that cannot be drawn are left out; y goes from one round
    value to another that hold the data, ``floor`` too, and by its logarithm with ``log``.
    ``unit`` is that of x."""

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
    if log:
        ticks = covering_log(10**y0, 10**y1)
    else:
        ticks = covering(y0 if floor is None else min(floor, y0), y1)
    y0, y1 = scaled(ticks[0]), scaled(ticks[-1])

    def at(x: float, y: float) -> str:
        across = left + (right - left) * (x - x0) / ((x1 - x0) or 1.0)
        return f"{across:.1f} {up(y):.1f}"

    def up(y: float) -> float:
        # A line at the lowest value is not to lie on the axis.
        return base - 5 - (base - 5 - top) * (y - y0) / (y1 - y0)

    parts = [axes]
    for value in ticks:
        y = up(scaled(value))
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(words(left - 4, y + 4, number(value), "tick end"))
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
