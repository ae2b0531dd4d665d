"""The plots of a report, as inline SVG out of its plain values."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monosemy.figures import number
from monosemy.svg import (
    LEFT,
    RIGHT,
    SERIES,
    WIDTH,
    Axes,
    drawing,
    frame,
    tick_below,
    tick_left,
    words,
)

LinkOf = Callable[[int], str]
"""Address of a feature, by its index."""

_CELL, _GAP, _HEAD = 112, 8, 16
_ROW = 22


def histogram(section: Mapping[str, Any]) -> str:
    """Bars for the scores themselves, outlines for what they are held against; shares of each."""
    edges, series = section["edges"], section["series"]
    if not edges:
        return frame("", "Distribution: no scores")
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
    for css, name in zip(SERIES[1:], [name for name in series if name != "own"], strict=False):
        outline = [
            point
            for left, right, share in zip(edges, edges[1:], shares[name], strict=False)
            for point in ((left, share), (right, share))
        ]
        drawn += axes.path(css, outline)
    return frame(drawn + _ticks(axes), f"Distribution: {_medians_of(section)}")


def cumulative(section: Mapping[str, Any]) -> str:
    """The share of features (upwards) with a score of at most that much."""
    if not section["edges"]:
        return frame("", "Cumulative distribution: no scores")
    axes = Axes(section["edges"][0], section["edges"][-1], 0.0, 1.0)
    drawn = ""
    for css, each in zip(SERIES, section["series"].values(), strict=False):
        steps = each["percentiles"]
        drawn += axes.path(css, [(value, i / 100) for i, value in enumerate(steps)])
    return frame(drawn + _ticks(axes), f"Cumulative distribution: {_medians_of(section)}")


def medians(section: Mapping[str, Any]) -> str:
    """One row for each series: the median and its interval."""
    known = [(name, each["median"]) for name, each in section["series"].items() if each["median"]]
    if not known:
        return frame("", "Medians: no scores")
    low = min(each["low"] for _, each in known)
    high = max(each["high"] for _, each in known)
    pad = 0.05 * (high - low) or 0.5
    axes = Axes(low - pad, high + pad, 0.0, float(len(known)))
    drawn = ""
    for row, (css, (name, each)) in enumerate(zip(SERIES, known, strict=False)):
        height = len(known) - row - 0.5
        x0, y = axes.place(each["low"], height)
        x1, x = axes.place(each["high"], height)[0], axes.place(each["value"], height)[0]
        drawn += _line(css, x0, y, x1, y) + _line(css, x, y - 5, x, y + 5)
        drawn += words(LEFT - 6, y + 4, _short(name, 9), "end")
        drawn += words(x, y - 8, number(each["value"]), "middle")
    return frame(drawn + _below(axes), f"Medians: {_medians_of(section)}")


def intervals(section: Mapping[str, Any], address: LinkOf | None = None) -> str:
    """Features side by side in the order of their scores: interval, and the shuffled baseline; with
    ``address`` each leads to its feature."""
    lines = section["drawn"]
    label = f"Intervals of {len(lines)} features"
    if not lines:
        return frame("", label)
    low = min(min(line) for line in lines)
    high = max(max(line) for line in lines)
    axes = Axes(-1.0, float(len(lines)), low, high if high > low else low + 1)
    drawn = ""
    features = section.get("drawn_features") or [None] * len(lines)
    for i, ((value, bottom, top, shuffled), feature) in enumerate(
        zip(lines, features, strict=True)
    ):
        (x, y0), y1 = axes.place(i, bottom), axes.place(i, top)[1]
        says = f"{number(value)}, 95 % {number(bottom)} to {number(top)}, "
        says += f"shuffled {number(shuffled)}"
        dots = _line("own", x, y0, x, y1) + _dot("own", *axes.place(i, value))
        dots += _dot("null", *axes.place(i, shuffled))
        drawn += _linked(feature, address, says, dots)
    linked = address is not None and features[0] is not None
    return frame(_left(axes) + drawn, label, linked)


def by_name(parts: Mapping[str, Any], ordered: bool) -> str:
    """Means with their intervals, one place for each stratum or tier; a line joins ``ordered``
    ones."""
    known = [(name, each) for name, each in parts.items() if each["value"] is not None]
    label = "Means: " + ", ".join(f"{name} {number(each['value'])}" for name, each in known)
    if not known:
        return frame("", "Means: none")
    ends = [each[end] for _, each in known for end in ("value", "low", "high")]
    low = min(0.0, *(end for end in ends if end is not None))
    high = max(end for end in ends if end is not None)
    high = max(high, 1.0) if low >= 0 and high <= 2 else high
    axes = Axes(-0.5, len(known) - 0.5, low, high if high > low else low + 1)
    line = [(i, each["value"]) for i, (_, each) in enumerate(known)]
    drawn = axes.path("own", line) if ordered else ""
    for i, (name, each) in enumerate(known):
        x, y = axes.place(i, each["value"])
        drawn += _dot("own", x, y) + tick_below(x, _short(name, 14))
        if each["low"] is not None:
            drawn += _line(
                "own", x, axes.place(i, each["low"])[1], x, axes.place(i, each["high"])[1]
            )
    return frame(drawn + _left(axes), label)


def scatters(
    scorers: Sequence[str], pairs: Sequence[Mapping[str, Any]], address: LinkOf | None = None
) -> str:
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
                drawn += words(middle, y + _CELL / 2, _short(across, 16), "middle")
            elif row < column:
                drawn += _coefficient(middle, y + _CELL / 2, by_names[down, across])
            else:
                drawn += _cloud(x, y, by_names[across, down], address)
    linked = address is not None and any(pair.get("features") for pair in pairs)
    label = "Scorers by each other: " + "; ".join(
        f"{pair['first']} and {pair['second']} {number(pair['value'])}" for pair in pairs
    )
    return drawing(size, size, "matrix", label, drawn, "group" if linked else "img")


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
        drawn += words(left - 6, y + 12, _short(name, 18), "end")
        drawn += f'<rect class="bar" x="{left}" y="{y}" width="{first:.1f}" height="14"/>'
        drawn += (
            f'<rect class="bar second" x="{left + first:.1f}" y="{y}" width="{second:.1f}"'
            ' height="14"/>'
        )
        says = f"{number(own)} + {number(others)}"
        drawn += words(left + first + second + 5, y + 12, says)
    label = f"Cost per feature, {unit}: " + "; ".join(
        f"{name} {number(own)}, its baselines {number(others)}" for name, own, others in rows
    )
    return drawing(WIDTH, len(rows) * _ROW + 6, "costs", label, drawn)


# -------------------------------------------------------------------- parts
def _ticks(axes: Axes) -> str:
    return _left(axes) + _below(axes)


def _left(axes: Axes) -> str:
    places = [axes.low + (axes.high - axes.low) * share for share in (0.0, 0.5, 1.0)]
    return "".join(tick_left(axes.place(axes.left, y)[1], number(y)) for y in places)


def _below(axes: Axes) -> str:
    middle = (axes.left + axes.right) / 2
    return (
        tick_below(LEFT, number(axes.left))
        + tick_below(axes.place(middle, axes.low)[0], number(middle))
        + tick_below(WIDTH - RIGHT, number(axes.right), at_end=True)
    )


def _medians_of(section: Mapping[str, Any]) -> str:
    known = {name: each["median"] for name, each in section["series"].items() if each["median"]}
    return ", ".join(f"{name} median {number(each['value'])}" for name, each in known.items())


def _cloud(x: float, y: float, pair: Mapping[str, Any], address: LinkOf | None) -> str:
    """Points within a cell, its sides their own ranges."""
    points = pair["points"]
    if not points:
        return ""
    (left, right), (low, high) = ((min(side), max(side)) for side in zip(*points, strict=True))
    wide, tall = right - left or 1.0, high - low or 1.0
    inside = _CELL - 10
    features = pair.get("features") or [None] * len(points)
    drawn = ""
    for (a, b), feature in zip(points, features, strict=True):
        across, down = x + 5 + inside * (a - left) / wide, y + 5 + inside * (high - b) / tall
        says = f"{pair['first']} {number(a)}, {pair['second']} {number(b)}"
        drawn += _linked(feature, address, says, _dot("own dim", across, down))
    return drawn


def _coefficient(x: float, y: float, pair: Mapping[str, Any]) -> str:
    if pair["value"] is None:
        reason = html.escape(str(pair["reason"]))
        return f"<g><title>{reason}</title>{words(x, y, 'none', 'middle')}</g>"
    interval = f"{number(pair['low'])} to {number(pair['high'])}"
    return (
        words(x, y, number(pair["value"]), "large middle")
        + words(x, y + 16, interval, "middle")
        + words(x, y + 30, f"{number(pair['n'])} features", "middle")
    )


def _linked(feature: int | None, address: LinkOf | None, says: str, drawn: str) -> str:
    if feature is None or address is None:
        return drawn
    # Hundreds of dots would be as many stops of the Tab key: the lists below have them in words.
    return (
        f'<a href="{html.escape(address(feature))}" tabindex="-1">'
        f"<title>feature {feature}: {html.escape(says)}</title>{drawn}</a>"
    )


def _line(css: str, x0: float, y0: float, x1: float, y1: float) -> str:
    return f'<line class="rod {css}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'


def _dot(css: str, x: float, y: float) -> str:
    return f'<circle class="dot {css}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
