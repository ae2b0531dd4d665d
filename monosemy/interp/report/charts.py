"""The plots of a report, as inline SVG out of its plain values."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from monosemy.svg import LEFT, RIGHT, WIDTH, Axes, frame, number, tick_below, tick_left

_CELL, _GAP, _HEAD = 112, 8, 16
_ROW = 22
_CLASSES = "abcd"

STYLE = """
circle.a { fill: #2f6fde; } circle.b { fill: #d9822b; } circle.dim { opacity: .35; }
line.a, line.b, line.c, line.d { stroke-width: 1.6; } rect.box { fill: none; stroke: currentColor;
opacity: .25; } rect.second { fill: #8a8f98; } text.large { font-size: 15px; }
table { border-collapse: collapse; font-size: 13px; margin: .5rem 0; display: block;
overflow-x: auto; } td, th { text-align: left; padding: .15rem .7rem .15rem 0; }
td { vertical-align: top; } th { font-weight: 600; } tr { border-bottom: 1px solid #8884; }
p.says { font-size: 13px; margin: 0; }
td.words { overflow-wrap: anywhere; min-width: 14rem; }
"""


def histogram(section: Mapping[str, Any]) -> str:
    """Bars for the scores themselves, outlines for what they are held against; shares of each."""
    edges, series = section["edges"], section["series"]
    if not edges:
        return frame("")
    shares = {
        name: [count / max(each["n"], 1) for count in each["counts"]]
        for name, each in series.items()
    }
    most = max(max(each) for each in shares.values()) or 1.0
    axes = Axes(edges[0], edges[-1], 0.0, most)
    base = axes.place(edges[0], 0.0)[1]
    drawn = ""
    for left, right, share in zip(edges, edges[1:], shares["own"], strict=False):
        (x0, y0), x1 = axes.place(left, share), axes.place(right, share)[0]
        drawn += (
            f'<rect class="bar" x="{x0 + 0.5:.1f}" y="{y0:.1f}" width="{x1 - x0 - 1:.1f}" '
            f'height="{base - y0:.1f}"><title>{share:.3f}</title></rect>'
        )
    for css, name in zip(_CLASSES[1:], [name for name in series if name != "own"], strict=False):
        outline = [
            point
            for left, right, share in zip(edges, edges[1:], shares[name], strict=False)
            for point in ((left, share), (right, share))
        ]
        drawn += axes.path(css, outline)
    return frame(drawn + _ticks(axes))


def cumulative(section: Mapping[str, Any]) -> str:
    """The share of features (upwards) with a score of at most that much."""
    if not section["edges"]:
        return frame("")
    axes = Axes(section["edges"][0], section["edges"][-1], 0.0, 1.0)
    drawn = ""
    for css, each in zip(_CLASSES, section["series"].values(), strict=False):
        steps = each["percentiles"]
        drawn += axes.path(css, [(value, i / 100) for i, value in enumerate(steps)])
    return frame(drawn + _ticks(axes))


def medians(section: Mapping[str, Any]) -> str:
    """One row for each series: the median and its interval."""
    known = [(name, each["median"]) for name, each in section["series"].items() if each["median"]]
    if not known:
        return frame("")
    low = min(each["low"] for _, each in known)
    high = max(each["high"] for _, each in known)
    pad = 0.05 * (high - low) or 0.5
    axes = Axes(low - pad, high + pad, 0.0, float(len(known)))
    drawn = ""
    for row, (css, (name, each)) in enumerate(zip(_CLASSES, known, strict=False)):
        height = len(known) - row - 0.5
        x0, y = axes.place(each["low"], height)
        x1, x = axes.place(each["high"], height)[0], axes.place(each["value"], height)[0]
        drawn += _line(css, x0, y, x1, y) + _line(css, x, y - 5, x, y + 5)
        drawn += f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_words(name, 9)}</text>'
        label = number(round(each["value"], 4))
        drawn += f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle">{label}</text>'
    return frame(drawn + _below(axes))


def intervals(section: Mapping[str, Any]) -> str:
    """Features side by side in the order of their scores: interval, and the shuffled baseline."""
    lines = section["drawn"]
    if not lines:
        return frame("")
    low = min(min(line) for line in lines)
    high = max(max(line) for line in lines)
    axes = Axes(-1.0, float(len(lines)), low, high if high > low else low + 1)
    drawn = ""
    for i, (value, bottom, top, shuffled) in enumerate(lines):
        (x, y0), y1 = axes.place(i, bottom), axes.place(i, top)[1]
        drawn += _line("a", x, y0, x, y1) + _dot("a", *axes.place(i, value))
        drawn += _dot("b", *axes.place(i, shuffled))
    return frame(drawn + _left(axes))


def by_name(parts: Mapping[str, Any], ordered: bool) -> str:
    """Means with their intervals, one place for each stratum or tier; a line joins ``ordered``
    ones."""
    known = [(name, each) for name, each in parts.items() if each["value"] is not None]
    if not known:
        return frame("")
    ends = [each[end] for _, each in known for end in ("value", "low", "high")]
    low = min(0.0, *(end for end in ends if end is not None))
    high = max(end for end in ends if end is not None)
    high = max(high, 1.0) if low >= 0 and high <= 2 else high
    axes = Axes(-0.5, len(known) - 0.5, low, high if high > low else low + 1)
    line = [(i, each["value"]) for i, (_, each) in enumerate(known)]
    drawn = axes.path("a", line) if ordered else ""
    for i, (name, each) in enumerate(known):
        x, y = axes.place(i, each["value"])
        drawn += _dot("a", x, y) + tick_below(x, _short(name, 14))
        if each["low"] is not None:
            drawn += _line("a", x, axes.place(i, each["low"])[1], x, axes.place(i, each["high"])[1])
    return frame(drawn + _left(axes))


def scatters(scorers: Sequence[str], pairs: Sequence[Mapping[str, Any]]) -> str:
    """A matrix: below the diagonal the features by two scorers, above it Spearman's correlation."""
    by_names = {(pair["first"], pair["second"]): pair for pair in pairs}
    count = len(scorers)
    size = count * (_CELL + _GAP) + _HEAD
    drawn = ""
    for row, down in enumerate(scorers):
        for column, across in enumerate(scorers):
            x, y = column * (_CELL + _GAP), row * (_CELL + _GAP) + _HEAD
            drawn += f'<rect class="box" x="{x}" y="{y}" width="{_CELL}" height="{_CELL}"/>'
            middle = x + _CELL / 2
            if row == column:
                drawn += _centred(middle, y + _CELL / 2, _words(across, 16))
            elif row < column:
                drawn += _coefficient(middle, y + _CELL / 2, by_names[down, across])
            else:
                drawn += _cloud(x, y, by_names[across, down]["points"])
    style = f'style="max-width:{1.3 * size:.0f}px"'
    return f'<svg viewBox="0 0 {size} {size}" {style} role="img">{drawn}</svg>'


def costs(parts: Mapping[str, Mapping[str, Any]], unit: str) -> str:
    """A row for each scorer: what one feature costs, its baselines apart; ``unit`` names which of
    the costs, ``tokens`` being those of prompts and answers together."""

    def of(cost: Mapping[str, float]) -> float:
        if unit == "tokens":
            return cost["prompt_tokens"] + cost["completion_tokens"]
        return cost[unit]

    rows = [(name, of(each["own"]), of(each["baselines"])) for name, each in parts.items()]
    most = max(own + others for _, own, others in rows) or 1.0
    left, width = 130, WIDTH - 130 - 150
    drawn = ""
    for i, (name, own, others) in enumerate(rows):
        y, first, second = i * _ROW + 4, width * own / most, width * others / most
        drawn += f'<text x="{left - 6}" y="{y + 12}" text-anchor="end">{_words(name, 18)}</text>'
        drawn += f'<rect class="bar" x="{left}" y="{y}" width="{first:.1f}" height="14"/>'
        drawn += (
            f'<rect class="second" x="{left + first:.1f}" y="{y}" width="{second:.1f}" '
            f'height="14"/><text x="{left + first + second + 5:.1f}" y="{y + 12}">'
            f"{number(own)} + {number(others)}</text>"
        )
    return f'<svg viewBox="0 0 {WIDTH} {len(rows) * _ROW + 6}" role="img">{drawn}</svg>'


# -------------------------------------------------------------------- parts
def _ticks(axes: Axes) -> str:
    return _left(axes) + _below(axes)


def _left(axes: Axes) -> str:
    places = [axes.low + (axes.high - axes.low) * share for share in (0.0, 0.5, 1.0)]
    return "".join(tick_left(axes.place(axes.left, y)[1], number(round(y, 4))) for y in places)


def _below(axes: Axes) -> str:
    middle = (axes.left + axes.right) / 2
    return (
        tick_below(LEFT, number(round(axes.left, 3)))
        + tick_below(axes.place(middle, axes.low)[0], number(round(middle, 3)))
        + tick_below(WIDTH - RIGHT, number(round(axes.right, 3)), at_end=True)
    )


def _cloud(x: float, y: float, points: Sequence[Sequence[float]]) -> str:
    """Points within a cell, its sides their own ranges."""
    if not points:
        return ""
    (left, right), (low, high) = ((min(side), max(side)) for side in zip(*points, strict=True))
    wide, tall = right - left or 1.0, high - low or 1.0
    inside = _CELL - 10
    return "".join(
        f'<circle class="a dim" cx="{x + 5 + inside * (a - left) / wide:.1f}" '
        f'cy="{y + 5 + inside * (high - b) / tall:.1f}" r="1.6"/>'
        for a, b in points
    )


def _coefficient(x: float, y: float, pair: Mapping[str, Any]) -> str:
    if pair["value"] is None:
        reason = f"none<title>{html.escape(str(pair['reason']))}</title>"
        return _centred(x, y, reason)
    interval = f"{pair['low']:.2f} to {pair['high']:.2f}"
    return (
        f'<text class="large" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">'
        f"{pair['value']:.2f}</text>"
        + _centred(x, y + 16, interval)
        + _centred(x, y + 30, f"{pair['n']:,} features")
    )


def _centred(x: float, y: float, words: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{words}</text>'


def _line(css: str, x0: float, y0: float, x1: float, y1: float) -> str:
    return f'<line class="{css}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'


def _dot(css: str, x: float, y: float) -> str:
    return f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>'


def _short(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"


def _words(words: str, most: int) -> str:
    return html.escape(_short(words, most))
