"""Drawings of the pages: SVG by attributes and classes, which the pages' policy allows.

Every drawing has an ``aria-label`` with its figures.  What is put in is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from markupsafe import Markup

from service.pages.format import fixed, number


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
) -> Markup:
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
    return _svg(width, 24, "interval", label, "".join(parts))


def bars(
    heights: Sequence[float],
    label: str,
    *,
    log: bool = False,
    titles: Sequence[str] = (),
    ticks: Sequence[tuple[float, str]] = (),
    width: int = 340,
    height: int = 120,
) -> Markup:
    """Bars side by side from the left; ``ticks``: (share of the width, words) below them.  On a log
    scale a bar of one is still seen."""
    most = max(heights, default=0) or 1.0
    left, base = 34 if log else 4, height - (16 if ticks else 2)
    room = base - 6
    step = (width - left - 4) / max(len(heights), 1)

    def tall(value: float) -> float:
        if value <= 0:
            return 0.0
        return room * (math.log10(value + 1) / math.log10(most + 1) if log else value / most)

    parts = []
    for i, value in enumerate(heights):
        high = tall(value)
        title = f"<title>{escape(titles[i])}</title>" if i < len(titles) else ""
        parts.append(
            f'<rect class="bar" x="{left + i * step + 0.5:.1f}" y="{base - high:.1f}"'
            f' width="{max(step - 1, 0.5):.1f}" height="{high:.1f}">{title}</rect>'
        )
    if log:
        powers = [10**i for i in range(int(math.log10(most + 1)) + 1)]
        for value in powers:
            y = base - tall(value)
            parts.append(f'<text class="tick end" x="{left - 4}" y="{y + 4:.1f}">{value:,}</text>')
            parts.append(
                f'<line class="grid" x1="{left}" x2="{width - 4}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
    for share, words in ticks:
        x = left + (width - left - 4) * share
        side = "end" if share > 0.95 else "start" if share < 0.05 else "middle"
        parts.append(
            f'<text class="tick {side}" x="{x:.1f}" y="{height - 3}">{escape(words)}</text>'
        )
    parts.append(f'<line class="axis" x1="{left}" x2="{width - 4}" y1="{base}" y2="{base}"/>')
    return _svg(width, height, "bars", label, "".join(parts))


def share_bar(share: float, label: str, css: str = "", width: int = 40) -> Markup:
    """A bar of a table's cell, as long as its share of the widest."""
    long = max(0.0, min(1.0, share)) * width
    return _svg(
        width, 10, f"share {css}", label, f'<rect x="0" y="1" width="{long:.1f}" height="8"/>'
    )


def curves(
    series: Sequence[tuple[str, str, Sequence[tuple[float, float]]]],
    label: str,
    *,
    width: int = 460,
    height: int = 200,
) -> Markup:
    """Lines over a common axis: (css class, name, points) each.  Points that are not finite are
    left out; y begins where the data does."""
    clean = [
        (css, name, [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)])
        for css, name, points in series
    ]
    every = [point for _, _, points in clean for point in points]
    if not every:
        return _svg(width, height, "curves", label, "")
    x0, x1 = min(x for x, _ in every), max(x for x, _ in every)
    y0, y1 = min(y for _, y in every), max(y for _, y in every)
    y0, y1 = (y0, y1) if y1 > y0 else (y0 - 0.5, y1 + 0.5)
    left, right, top, base = 48, width - 8, 8, height - 22

    def at(x: float, y: float) -> str:
        across = left + (right - left) * (x - x0) / ((x1 - x0) or 1.0)
        return f"{across:.1f} {base - (base - top) * (y - y0) / (y1 - y0):.1f}"

    parts = []
    for share in (0.0, 0.5, 1.0):
        y = base - (base - top) * share
        words = number(y0 + (y1 - y0) * share)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick end" x="{left - 4}" y="{y + 4:.1f}">{words}</text>')
    for x, side in ((x0, "start"), (x1, "end")):
        place = left if side == "start" else right
        parts.append(f'<text class="tick {side}" x="{place}" y="{height - 6}">{number(x)}</text>')
    for css, name, points in clean:
        if points:
            line = "L".join(at(x, y) for x, y in points)
            parts.append(
                f'<path class="line {css}" d="M{line}"><title>{escape(name)}</title></path>'
            )
    return _svg(width, height, "curves", label, "".join(parts))


def _svg(width: int, height: int, css: str, label: str, inner: str) -> Markup:
    box = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return Markup(
        f'<svg class="{escape(css)}" {box} role="img" aria-label="{escape(label)}">{inner}</svg>'
    )
