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

from monosemy.figures import number
from monosemy.plots import bars, curves
from monosemy.specs.readings import BASELINE, TrainingReading
from monosemy.svg import figure, key, page

_LOWEST, _BINS = -6, 12
"""Of the density histogram: log10 of its first edge, number of half decades."""


@dataclass(frozen=True)
class TrainingChart:
    """A figure of readings over the tokens trained on."""

    title: str
    reading: str
    """Name of what is drawn, as ``TrainingReading.flat`` has it."""
    log: bool = False
    twin: bool = False
    """Whether the frozen-decoder baseline has it too."""

    def series(self, lines: Sequence[Mapping[str, float]]) -> dict[str, list[tuple[float, float]]]:
        """By name, what was read: (tokens, value), of the SAE and of its baseline."""
        names = {"SAE": self.reading}
        if self.twin:
            names["frozen-decoder baseline"] = f"{BASELINE}.{self.reading}"
        found = {
            title: [(float(line["tokens"]), float(line[name])) for line in lines if name in line]
            for title, name in names.items()
        }
        return {title: points for title, points in found.items() if points or title == "SAE"}


CHARTS = (
    TrainingChart("FVU (log scale)", "fvu", log=True, twin=True),
    TrainingChart("L0", "l0", twin=True),
    TrainingChart("Loss (log scale)", "loss", log=True, twin=True),
    TrainingChart("Dead latents (share)", "dead_share", twin=True),
    TrainingChart("Learning rate", "learning_rate"),
)
CLASSES = ("own", "null")
"""Of a chart's series."""


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
    figures = []
    for chart in CHARTS:
        series = chart.series(lines)
        figures.append(
            figure(chart.title, draw_chart(chart, series), key(list(series), lines=True))
        )
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
        f'<main class="plots">{"".join(figures)}</main>'
        f"<h2>Last reading</h2><dl>{facts}</dl>"
        f"<details><summary>Spec</summary><pre>{details}</pre></details>"
    )
    return page(title, body, refresh)


def _size(spec: Mapping[str, Any]) -> str:
    sae = spec.get("sae") or {}
    return f"{sae.get('architecture', '')} {sae.get('d_sae', '')}"


def draw_chart(chart: TrainingChart, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """SVG of what ``chart.series`` gave."""
    lines = [
        (css, name, points) for css, (name, points) in zip(CLASSES, series.items(), strict=False)
    ]
    ends = [f"{name} {number(points[-1][1])}" for name, points in series.items() if points]
    label = f"{chart.title}: {'; '.join(ends)}" if ends else chart.title
    return curves(lines, label, log=chart.log, floor=0.0, unit="tokens")


def _density(histogram: Mapping[str, Any]) -> str:
    """Bars; what never fired is said beside them."""
    counts, silent = histogram["counts"], histogram["silent"]
    per = histogram["per_decade"]
    ticks = [
        (i / len(counts), f"{histogram['lowest'] + i / per:.0f}")
        for i in range(0, len(counts) + 1, per)
    ]
    titles = [f"{count} latents" for count in counts]
    says = f"{silent} of {silent + sum(counts)} silent"
    drawn = bars(counts, f"Latents by density; {says}", titles=titles, ticks=ticks, height=200)
    return f'{drawn}<p class="says">{says}</p>'
