"""The plots of a report, as inline SVG out of its plain values."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monosemy.figures import fixed, number, percent
from monosemy.interp import strata
from monosemy.svg import (
    LEFT,
    SERIES,
    WIDTH,
    Axes,
    drawing,
    frame,
    tick_below,
    tick_left,
    words,
)
from monosemy.ticks import covering

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
    axes = _round(edges, [0.0, max(max(each) for each in shares.values())])
    base = axes.place(edges[0], 0.0)[1]
    drawn = _ticks(axes) + _chance_across(axes, section)
    for left, right, share in zip(edges, edges[1:], shares["own"], strict=False):
        (x0, y0), x1 = axes.place(left, share), axes.place(right, share)[0]
        drawn += (
            f'<rect class="bar" x="{x0 + 0.5:.1f}" y="{y0:.1f}" width="{x1 - x0 - 1:.1f}" '
            f'height="{base - y0:.1f}"><title>{fixed(left)} to {fixed(right)}: '
            f"{percent(share)}</title></rect>"
        )
    for css, name in zip(SERIES[1:], [name for name in series if name != "own"], strict=False):
        outline = [
            point
            for left, right, share in zip(edges, edges[1:], shares[name], strict=False)
            for point in ((left, share), (right, share))
        ]
        drawn += axes.path(css, [(edges[0], 0.0), *outline, (edges[-1], 0.0)])
    return frame(drawn, f"Distribution: {_medians_of(section)}")


def cumulative(section: Mapping[str, Any]) -> str:
    """The share of features (upwards) with a score of at most that much: steps from one side of the
    drawing to the other."""
    if not section["edges"]:
        return frame("", "Cumulative distribution: no scores")
    axes = _round(section["edges"], [0.0, 1.0])
    drawn = _ticks(axes) + _chance_across(axes, section)
    for css, each in zip(SERIES, section["series"].values(), strict=False):
        drawn += axes.path(css, _steps(each["percentiles"], each["n"], axes))
    return frame(drawn, f"Cumulative distribution: {_medians_of(section)}")


def _steps(percentiles: Sequence[float], n: int, axes: Axes) -> list[tuple[float, float]]:
    """Of values at 0, 1, ... 100 % of ``n``: up where a value is, level until the next."""
    if not percentiles:
        return []
    reached = {value: max(1, math.ceil(i * n / 100)) / n for i, value in enumerate(percentiles)}
    points, before = [(axes.left, 0.0)], 0.0
    for value, share in reached.items():
        points += [(value, before), (value, share)]
        before = share
    return [*points, (axes.right, 1.0)]


def medians(section: Mapping[str, Any]) -> str:
    """One row for each series: the median and its interval."""
    known = {name: each["median"] for name, each in section["series"].items()}
    return _rows("Medians", known, _chance_of(section), section)


def gains(section: Mapping[str, Any]) -> str:
    """One row for each baseline: the median of what each feature's score is above it."""
    return _rows("Gains", section["gains"], 0.0)


def _rows(
    title: str,
    estimates: Mapping[str, Any],
    line: float | None,
    section: Mapping[str, Any] | None = None,
) -> str:
    known = {name: each for name, each in estimates.items() if each}
    if not known:
        return frame("", f"{title}: no scores")
    ends = [each[end] for each in known.values() for end in ("low", "high")]
    axes = _round([*ends, *([] if line is None else [line])], [0.0, 1.0])
    axes = Axes(axes.left, axes.right, 0.0, float(len(known)))
    drawn = _below(axes) + _upright(axes, line, "chance" if section else "no gain")
    classes = SERIES if section else SERIES[1:]
    for row, (css, (name, each)) in enumerate(zip(classes, known.items(), strict=False)):
        height = len(known) - row - 0.5
        x0, y = axes.place(each["low"], height)
        x1, x = axes.place(each["high"], height)[0], axes.place(each["value"], height)[0]
        drawn += _line(css, x0, y, x1, y) + _line(css, x, y - 5, x, y + 5)
        drawn += words(LEFT - 6, y + 4, _short(name, 9), "end")
        side = "end" if x > WIDTH - 60 else "middle"
        drawn += words(x, y - 8, fixed(each["value"]), side)
    says = ", ".join(f"{name} {fixed(each['value'])}" for name, each in known.items())
    return frame(drawn, f"{title}: {says}")


def intervals(section: Mapping[str, Any], address: LinkOf | None = None) -> str:
    """Features side by side in the order of their scores: interval, and the shuffled baseline; with
    ``address`` each leads to its feature."""
    lines = section["drawn"]
    label = f"Intervals of {len(lines)} features"
    if not lines:
        return frame("", label)
    line = _chance_of(section)
    every = [each for values in lines for each in values]
    heights = _round([0.0, 1.0], [*every, *([] if line is None else [line])])
    axes = Axes(-1.0, float(len(lines)), heights.low, heights.high)
    drawn = ""
    features = section.get("drawn_features") or [None] * len(lines)
    for i, ((value, bottom, top, shuffled), feature) in enumerate(
        zip(lines, features, strict=True)
    ):
        (x, y0), y1 = axes.place(i, bottom), axes.place(i, top)[1]
        says = f"{fixed(value)}, 95 % {fixed(bottom)} to {fixed(top)}, "
        says += f"shuffled {fixed(shuffled)}"
        dots = _line("own", x, y0, x, y1) + _dot("own", *axes.place(i, value))
        dots += _dot("null", *axes.place(i, shuffled))
        drawn += _linked(feature, address, says, dots)
    linked = address is not None and features[0] is not None
    return frame(_left(axes) + _level(axes, line) + drawn, label, linked)


def by_stratum(section: Mapping[str, Any]) -> str:
    """Means with their intervals, one place for each stratum of activation, the weakest first; a
    line joins them.  Those of which there is no text have their place too."""
    parts = section["strata"]
    count = strata.how_many(parts)
    if not count:
        return by_name(parts)
    names = [str(number) for number in range(count)]
    short = {each: f"{int(each) + 1}" for each in names}
    return by_name({each: parts.get(each) for each in names}, short, _chance_of(section))


def by_name(
    parts: Mapping[str, Any],
    short: Mapping[str, str] | None = None,
    line: float | None = None,
) -> str:
    """Means with their intervals, one place for each part; what is None says so.  With ``short``
    names the parts are in an order, and a line joins them."""
    known = {name: each for name, each in parts.items() if each and each["value"] is not None}
    titles = {name: short[name] if short else name for name in parts}
    label = "Means: " + ", ".join(f"{titles[name]} {fixed(known[name]['value'])}" for name in known)
    if not known:
        return frame("", "Means: none")
    ends = [each[end] for each in known.values() for end in ("value", "low", "high")]
    heights = [end for end in ends if end is not None] + ([] if line is None else [line])
    bounds = [0.0, 1.0] if min(heights) >= 0 and max(heights) <= 1 else [0.0]
    whole = _round([0.0, 1.0], [*bounds, *heights])
    axes = Axes(-0.5, len(parts) - 0.5, whole.low, whole.high)
    drawn = _left(axes) + _level(axes, line)
    places = {name: i for i, name in enumerate(parts)}
    drawn += axes.path(
        "own", [(places[n], each["value"]) for n, each in known.items()] * bool(short)
    )
    for name, i in places.items():
        middle = axes.place(i, axes.low)[0]
        drawn += tick_below(middle, _short(titles[name], 14))
        if name not in known:
            drawn += words(middle, axes.place(i, (axes.low + axes.high) / 2)[1], "–", "middle")
            continue
        each = known[name]
        x, y = axes.place(i, each["value"])
        if each["low"] is not None:
            drawn += _line(
                "own", x, axes.place(i, each["low"])[1], x, axes.place(i, each["high"])[1]
            )
        drawn += _dot("own", x, y)
    return frame(drawn, label)


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
        f"{pair['first']} and {pair['second']} {fixed(pair['value'])}" for pair in pairs
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
    asks = {name: any(each[which]["calls"] for which in each) for name, each in parts.items()}
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
        says = f"{number(own)} + {number(others)}" if asks[name] else "asks no judge"
        drawn += words(left + first + second + 5, y + 12, says)
    label = f"Cost per feature, {unit}: " + "; ".join(
        f"{name} {number(own)}, its baselines {number(others)}" for name, own, others in rows
    )
    return drawing(WIDTH, len(rows) * _ROW + 6, "costs", label, drawn)


# -------------------------------------------------------------------- parts
def _round(across: Sequence[float], up: Sequence[float]) -> Axes:
    """Axes from one round value to another, which hold these."""
    x, y = covering(min(across), max(across)), covering(min(up), max(up))
    return Axes(x[0], x[-1], y[0], y[-1])


def _ticks(axes: Axes) -> str:
    return _left(axes) + _below(axes)


def _left(axes: Axes) -> str:
    return "".join(
        tick_left(axes.place(axes.left, y)[1], number(y)) for y in covering(axes.low, axes.high)
    )


def _below(axes: Axes) -> str:
    last = covering(axes.left, axes.right)[-1]
    return "".join(
        tick_below(axes.place(x, axes.low)[0], number(x), at_end=x == last)
        for x in covering(axes.left, axes.right)
    )


def _chance_of(section: Mapping[str, Any]) -> float | None:
    return section.get("chance")


def _chance_across(axes: Axes, section: Mapping[str, Any]) -> str:
    return _upright(axes, _chance_of(section), "chance")


def _upright(axes: Axes, value: float | None, says: str) -> str:
    """A dashed line where chance, or zero, lies across."""
    if value is None or not axes.left <= value <= axes.right:
        return ""
    points = [(value, axes.low), (value, axes.high)]
    return axes.path("chance", points, f"{says} {number(value)}")


def _level(axes: Axes, value: float | None) -> str:
    if value is None or not axes.low <= value <= axes.high:
        return ""
    points = [(axes.left, value), (axes.right, value)]
    return axes.path("chance", points, f"chance {number(value)}")


def _medians_of(section: Mapping[str, Any]) -> str:
    known = {name: each["median"] for name, each in section["series"].items() if each["median"]}
    return ", ".join(f"{name} median {fixed(each['value'])}" for name, each in known.items())


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
    interval = f"95 %: {fixed(pair['low'])} to {fixed(pair['high'])}"
    lines = [interval, f"{number(pair['n'])} features"]
    if pair["low"] <= 0 <= pair["high"]:
        lines.append("0 is within it")
    return words(x, y - 14, fixed(pair["value"]), "large middle") + "".join(
        words(x, y + 4 + 15 * i, line, "middle") for i, line in enumerate(lines)
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
    return f'<circle class="dot {css}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
