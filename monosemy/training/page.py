"""A page that shows how a training went: curves and the density histogram, in one file.

It needs neither torch nor a network.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monosemy.specs.readings import BASELINE, TrainingReading
from monosemy.svg import (
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axes,
    figure,
    frame,
    key,
    number,
    page,
    tick_below,
    tick_left,
)

_LOWEST, _BINS = -6, 12
"""Of the density histogram: log10 of its first edge, number of half decades."""


@dataclass(frozen=True)
class _Chart:
    title: str
    series: Mapping[str, str]
    """Name of a reading to what it is called in the key."""
    log: bool = False


_CHARTS = (
    _Chart(
        "FVU (log scale)", {"fvu": "SAE", f"{BASELINE}.fvu": "frozen-decoder baseline"}, log=True
    ),
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
    history: Sequence[TrainingReading],
    histogram: Mapping[str, Any] | None = None,
    live: bool = False,
) -> str:
    """The page of one SAE: ``spec`` of its run, readings, ``density_histogram`` once there is one.

    A ``live`` page loads itself again every few seconds.
    """
    lines = [reading.flat() for reading in history]
    title = str(spec.get("name") or f"{spec.get('site', '')} {_size(spec)}")
    figures = [
        figure(chart.title, _curves(chart, lines), key(list(chart.series.values())))
        for chart in _CHARTS
    ]
    if histogram is not None:
        drawing = _density(histogram)
        figures.append(figure("Density: log10 of the share of tokens", drawing))
    last = lines[-1] if lines else {}
    facts = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{number(value)}</dd>" for name, value in last.items()
    )
    refresh = f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">' if live else ""
    details = html.escape(json.dumps(spec, indent=1))
    body = (
        f"<main>{''.join(figures)}</main>"
        f"<h2>Last reading</h2><dl>{facts}</dl>"
        f"<details><summary>Spec</summary><pre>{details}</pre></details>"
    )
    return page(title, body, refresh)


def _size(spec: Mapping[str, Any]) -> str:
    sae = spec.get("sae") or {}
    return f"{sae.get('architecture', '')} {sae.get('d_sae', '')}"


def _curves(chart: _Chart, history: Sequence[Mapping[str, float]]) -> str:
    lines = {
        name: [
            (float(line["tokens"]), float(line[name]))
            for line in history
            if name in line and (line[name] > 0 or not chart.log)
        ]
        for name in chart.series
    }
    points = [point for line in lines.values() for point in line]
    if not points:
        return frame("")
    y_of = math.log10 if chart.log else float
    right = max(x for x, _ in points) or 1.0
    low, high = min(y_of(y) for _, y in points), max(y_of(y) for _, y in points)
    low = low if chart.log else min(low, 0.0)
    if high - low < 1e-12:
        high = low + 1.0
    axes = Axes(0.0, right, low, high)
    drawn = ""
    for css, line in zip("ab", lines.values(), strict=False):
        drawn += axes.path(css, ((x, y_of(y)) for x, y in line))
    for share in (0.0, 0.5, 1.0):
        value = low + (high - low) * share
        drawn += tick_left(axes.place(0, value)[1], number(10**value if chart.log else value))
    drawn += tick_below(LEFT, "0") + tick_below(WIDTH - RIGHT, f"{number(right)} tokens", True)
    return frame(drawn)


def _density(histogram: Mapping[str, Any]) -> str:
    """Bars; what never fired is said beside them."""
    counts, silent = histogram["counts"], histogram["silent"]
    most = max(counts) or 1
    place = Axes(0.0, float(len(counts)), 0.0, float(most)).place
    drawn = ""
    for i, count in enumerate(counts):
        x0, y0 = place(i, count)
        x1, base = place(i + 1, 0)
        drawn += (
            f'<rect class="bar" x="{x0 + 1:.1f}" y="{y0:.1f}" width="{x1 - x0 - 2:.1f}" '
            f'height="{base - y0:.1f}"><title>{count} latents</title></rect>'
        )
        if i % 2 == 0:
            drawn += tick_below(x0, f"{histogram['lowest'] + i / histogram['per_decade']:.0f}")
    drawn += tick_left(place(0, most)[1], str(most)) + tick_left(place(0, 0)[1], "0")
    drawn += f'<text x="{LEFT + 6}" y="{TOP + 12}">{silent} of {silent + sum(counts)} silent</text>'
    return frame(drawn)
