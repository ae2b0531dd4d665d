"""/saes/{sae}/training: how an SAE was trained, its twin beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.orm import Session

from monosemy.figures import duration, number
from monosemy.specs.readings import BASELINE, TrainingReading
from monosemy.specs.rest.saes import SaeDetail
from monosemy.specs.rest.training import SaeReadings, TrainingReadings
from monosemy.training.page import CHARTS, CLASSES, TrainingChart
from service.edge.context import ContextDep, SessionDep
from service.kit.errors import NotFound
from service.pages.page import PageRouter
from service.pages.sae_figures import Measured, figure, measured
from service.runs.training import training_of
from service.saes.endpoints import SaeReference, show

router = PageRouter()

POINTS = 120
"""Readings that the page itself draws; the script asks for more."""
_MOST_TERMS = 12


@dataclass(frozen=True)
class Drawn:
    """A chart as it is drawn."""

    chart: TrainingChart
    series: list[tuple[str, str, list[tuple[float, float]]]]
    says: str


@dataclass(frozen=True)
class Training:
    sae: SaeDetail
    found: TrainingReadings | None
    mine: SaeReadings | None
    drawn: list[Drawn]
    facts: list[tuple[str, str]]
    others: list[SaeReadings]
    """Of the same run."""
    script_data: dict[str, Any]
    held_out: Measured
    """The evaluation, which the curves are not of."""


@router.page("/saes/{sae}/training", "sae_training.html", script="pages/training.js")
def training(session: SessionDep, context: ContextDep, sae: SaeReference) -> Training:
    detail = show(session, context, sae)
    found, mine = readings_of(session, detail, POINTS)
    others = [each for each in found.saes if each is not mine] if found else []
    drawn = charts_of(mine.readings) if mine else []
    told = {
        "run": str(found.run_id) if found else None,
        "place": mine.place if mine else None,
        "charts": [asdict(each.chart) for each in drawn],
        "baseline": BASELINE,
    }
    facts, held_out = _facts(detail.metrics), measured(detail.metrics)
    return Training(detail, found, mine, drawn, facts, others, told, held_out)


def readings_of(
    session: Session, sae: SaeDetail, points: int
) -> tuple[TrainingReadings | None, SaeReadings | None]:
    """Of its run, and its own; None for an SAE that was not trained here, or whose run or readings
    are gone."""
    if sae.run_id is None:
        return None, None
    try:
        found = training_of(session, sae.run_id, points)
    except NotFound:
        return None, None
    mine = next((each for each in found.saes if each.sae_id == sae.id), None)
    if mine is None and len(found.saes) == 1:  # a run that did not note what it made
        mine = found.saes[0]
    return found, mine if mine is not None and mine.readings else None


def charts_of(readings: Sequence[TrainingReading]) -> list[Drawn]:
    """Those for which there are readings; a chart for each term of the loss."""
    lines = [reading.flat() for reading in readings]
    names = dict.fromkeys(name for line in lines for name in line if name.startswith("terms."))
    terms = [
        TrainingChart(f"Term of the loss: {name.removeprefix('terms.')}", name, twin=True)
        for name in list(names)[:_MOST_TERMS]
    ]
    drawn = [draw(chart, lines) for chart in (*CHARTS, *terms)]
    return [each for each in drawn if each.series]


def draw(chart: TrainingChart, lines: Sequence[Mapping[str, float]]) -> Drawn:
    known = {name: points for name, points in chart.series(lines).items() if points}
    ends = [f"{name} {number(points[-1][1])}" for name, points in known.items()]
    series = [
        (css, name, points) for css, (name, points) in zip(CLASSES, known.items(), strict=False)
    ]
    return Drawn(chart, series, f"{chart.title}, at the end: {', '.join(ends)}")


def _facts(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    whole = {"tokens": "tokens", "steps": "steps", "devices": "devices", "outliers": "outliers"}
    found = [
        (title, number(int(known)))
        for name, title in whole.items()
        if (known := figure(metrics.get(name))) is not None
    ]
    for name, title in (("epochs", "epochs"), ("tokens_per_second", "tokens per second")):
        if (known := figure(metrics.get(name))) is not None:
            found.append((title, number(known)))
    if (known := figure(metrics.get("seconds"))) is not None:
        found.append(("time", duration(known)))
    return found
