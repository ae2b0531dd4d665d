"""A page that shows how a training went: curves and the density histogram, in one file.

Plain HTML with inline SVG: it opens anywhere, loads nothing, and needs neither torch nor a network.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_WIDTH, _HEIGHT = 460, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 10, 10, 34

_LOWEST, _BINS = -6, 12
"""Of the density histogram: log10 of its first edge, number of half decades."""

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; } text { fill: currentColor; font-size: 11px; }
.axis { stroke: currentColor; opacity: .35; } .grid { stroke: currentColor; opacity: .12; }
path { fill: none; stroke-width: 1.6; } .a { stroke: #2f6fde; } .b { stroke: #d9822b; }
rect.bar { fill: #2f6fde; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; }
dt { opacity: .7; } dd { margin: 0; } summary { cursor: pointer; } .key { font-size: 13px; }
"""


@dataclass(frozen=True)
class _Chart:
    title: str
    series: Mapping[str, str]
    """Name of a reading to what it is called in the key."""
    log: bool = False


_CHARTS = (
    _Chart("FVU (log scale)", {"fvu": "SAE", "baseline_fvu": "frozen random decoder"}, log=True),
    _Chart("L0", {"l0": "active latents per token"}),
    _Chart("Loss (log scale)", {"loss": "loss"}, log=True),
    _Chart("Dead latents (share)", {"dead_share": "dead"}),
    _Chart("Learning rate", {"learning_rate": "rate"}),
)


REFRESH_SECONDS = 5


def density_histogram(density: Sequence[float]) -> dict[str, Any]:
    """Latents by firing rate: ``counts`` over half decades from ``lowest`` (log10) up to 1.

    Rates below the lowest edge count in the first bin; ``silent`` are those that never fired.
    """
    counts = [0] * _BINS
    for rate in density:
        if rate > 0:
            counts[min(_BINS - 1, max(0, int((math.log10(rate) - _LOWEST) * 2)))] += 1
    silent = sum(rate <= 0 for rate in density)
    return {"lowest": _LOWEST, "per_decade": 2, "counts": counts, "silent": silent}


def training_page(
    spec: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    histogram: Mapping[str, Any] | None = None,
    live: bool = False,
) -> str:
    """The page of one SAE: ``spec`` of its run, readings, ``density_histogram`` once there is one.

    A ``live`` page loads itself again every few seconds.
    """
    title = html.escape(str(spec.get("name") or f"{spec.get('site', '')} {_size(spec)}"))
    figures = [_figure(chart.title, _curves(chart, history), _key(chart)) for chart in _CHARTS]
    if histogram is not None:
        drawing = _density(histogram)
        figures.append(_figure("Density: log10 of the share of tokens", drawing, ""))
    last = history[-1] if history else {}
    facts = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{_number(value)}</dd>"
        for name, value in last.items()
        if isinstance(value, int | float)
    )
    refresh = f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">' if live else ""
    details = html.escape(json.dumps(spec, indent=1))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width">{refresh}'
        f"<style>{_STYLE}</style></head>"
        f"<body><h1>{title}</h1><main>{''.join(figures)}</main>"
        f"<h2>Last reading</h2><dl>{facts}</dl>"
        f"<details><summary>Spec</summary><pre>{details}</pre></details></body></html>\n"
    )


def _size(spec: Mapping[str, Any]) -> str:
    sae = spec.get("sae") or {}
    return f"{sae.get('architecture', '')} {sae.get('d_sae', '')}"


def _figure(title: str, drawing: str, key: str) -> str:
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{drawing}{key}</figure>"


def _key(chart: _Chart) -> str:
    if len(chart.series) < 2:
        return ""
    colours = ("#2f6fde", "#d9822b")
    parts = (
        f'<span style="color:{colour}">&#9632;</span> {html.escape(name)}'
        for name, colour in zip(chart.series.values(), colours, strict=True)
    )
    return f'<div class="key">{" &nbsp; ".join(parts)}</div>'


def _curves(chart: _Chart, history: Sequence[Mapping[str, Any]]) -> str:
    lines = {
        name: [
            (float(line["tokens"]), float(line[name]))
            for line in history
            if _drawable(line.get(name), chart.log)
        ]
        for name in chart.series
    }
    points = [point for line in lines.values() for point in line]
    if not points:
        return _frame("")
    y_of = math.log10 if chart.log else float
    right = max(x for x, _ in points) or 1.0
    low, high = min(y_of(y) for _, y in points), max(y_of(y) for _, y in points)
    low = low if chart.log else min(low, 0.0)
    if high - low < 1e-12:
        high = low + 1.0
    place = _placer(right, low, high)
    drawn = ""
    for css, line in zip("ab", lines.values(), strict=False):
        steps = " L".join("{:.1f} {:.1f}".format(*place(x, y_of(y))) for x, y in line)
        drawn += f'<path class="{css}" d="M{steps}"/>' if line else ""
    for share in (0.0, 0.5, 1.0):
        value = low + (high - low) * share
        drawn += _tick_left(place(0, value)[1], _number(10**value if chart.log else value))
    drawn += _tick_below(_LEFT, "0") + _tick_below(
        _WIDTH - _RIGHT, f"{_number(right)} tokens", True
    )
    return _frame(drawn)


def _density(histogram: Mapping[str, Any]) -> str:
    """Bars; what never fired is said beside them."""
    counts, silent = histogram["counts"], histogram["silent"]
    most = max(counts) or 1
    place = _placer(float(len(counts)), 0.0, float(most))
    drawn = ""
    for i, count in enumerate(counts):
        x0, y0 = place(i, count)
        x1, base = place(i + 1, 0)
        drawn += (
            f'<rect class="bar" x="{x0 + 1:.1f}" y="{y0:.1f}" width="{x1 - x0 - 2:.1f}" '
            f'height="{base - y0:.1f}"><title>{count} latents</title></rect>'
        )
        if i % 2 == 0:
            drawn += _tick_below(x0, f"{histogram['lowest'] + i / histogram['per_decade']:.0f}")
    drawn += _tick_left(place(0, most)[1], str(most)) + _tick_left(place(0, 0)[1], "0")
    drawn += (
        f'<text x="{_LEFT + 6}" y="{_TOP + 12}">{silent} of {silent + sum(counts)} silent</text>'
    )
    return _frame(drawn)


def _placer(right: float, low: float, high: float) -> Callable[[float, float], tuple[float, float]]:
    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (_WIDTH - _LEFT - _RIGHT) * x / right
        down = _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - y) / (high - low)
        return across, down

    return place


def _frame(drawn: str) -> str:
    base = _HEIGHT - _BOTTOM
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f'<line class="axis" x1="{_LEFT}" y1="{base}" x2="{_WIDTH - _RIGHT}" y2="{base}"/>'
        f'<line class="axis" x1="{_LEFT}" y1="{_TOP}" x2="{_LEFT}" y2="{base}"/>{drawn}</svg>'
    )


def _tick_left(y: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{html.escape(text)}</text>'
    )


def _tick_below(x: float, text: str, at_end: bool = False) -> str:
    anchor = "end" if at_end else "middle"
    return f'<text x="{x:.1f}" y="{_HEIGHT - 14}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _drawable(value: Any, log: bool) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and (value > 0 or not log)


def _number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
