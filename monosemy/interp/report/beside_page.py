"""The report on SAEs and bases beside each other, drawn."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from monosemy.figures import even_percent, fixed, number
from monosemy.interp import metric_words
from monosemy.interp.report import charts
from monosemy.interp.report.beside import FEW, medians_table
from monosemy.interp.report.page import captioned, table
from monosemy.svg import key, page


def beside_page(report: Mapping[str, Any]) -> str:
    """HTML of what ``build_beside`` made (or of its JSON, read back), in one file."""
    return page(f"{report['name']} beside others", beside_body(report))


def beside_body(report: Mapping[str, Any]) -> str:
    """What stands on that page below its title."""
    parts = [_sides(report)]
    parts += [_scorer(name, each) for name, each in report["scorers"].items()]
    return "".join(parts)


def _sides(report: Mapping[str, Any]) -> str:
    head = ["", "what", "latents", "L0", "silent", f"fewer than {FEW} activations", "scored"]
    rows = [
        [
            side["name"],
            (side["basis"] or "trained").replace("_", " "),
            number(side["latents"]),
            number(side["l0"]),
            even_percent(side["silent"]),
            even_percent(side["few"]),
            number(side["scored"]),
        ]
        for side in report["sides"]
    ]
    words = (
        ""
        if report["one_text"]
        else (
            "<p>They are not all indexed over one text: differences may be those of the texts.</p>"
        )
    )
    return table("What stands beside each other", head, rows) + words


def _scorer(name: str, section: Mapping[str, Any]) -> str:
    names = list(section["series"])
    drawn = {**section, "series": _own_first(section["series"])}
    figures = [
        captioned("beside", "Distribution", charts.histogram(drawn) + key(names)),
        captioned("cumulative", "Cumulative", charts.cumulative(section) + key(names, lines=True)),
        captioned("medians", "Medians", charts.medians(section)),
    ]
    apart = [
        [
            side,
            number(found["n"]),
            f"{even_percent(found['above']['value'])} ({even_percent(found['above']['low'])} to "
            f"{even_percent(found['above']['high'])})"
            if found["n"]
            else "no baselines",
        ]
        for side, found in section["intervals"].items()
    ]
    says = "".join(
        f"<li>{html.escape(each['says'])}{_above(each)}</li>" for each in section["differences"]
    )
    metric = html.escape(metric_words.heading(str(section["metric"])))
    return (
        f"<h2>{html.escape(name)} <small>{metric}</small></h2>"
        f'<ul class="says">{says}</ul><div class="plots">{"".join(figures)}</div>'
        + table("Told apart from the shuffled baseline", ["", "features", "share"], apart)
        + table(
            "Medians by the share of tokens on which a feature fires",
            ["density", *names],
            [list(row) for row in medians_table(section)],
        )
    )


def _own_first(series: Mapping[str, Any]) -> dict[str, Any]:
    """The first one under the name that is drawn as bars."""
    first, *others = series
    return {"own": series[first], **{name: series[name] for name in others}}


def _above(difference: Mapping[str, Any]) -> str:
    above = difference["above"]
    if not above or above["value"] is None:
        return ""
    return (
        f" A feature of the first scores above one of {html.escape(difference['other'])} with a "
        f"probability of {fixed(above['value'])} ({fixed(above['low'])} to {fixed(above['high'])})."
    )
