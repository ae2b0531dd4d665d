"""The report as one page that opens anywhere: inline SVG, no script, nothing loaded."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from monosemy.figures import fixed, number
from monosemy.interp.report import charts
from monosemy.interp.report.charts import LinkOf
from monosemy.interp.report.measures import REFERENCE
from monosemy.svg import figure, key, page

_CAPTIONS = {
    "histogram": "The share of features (upwards) by score: bars are the explanations' own, "
    "outlines what the same judge gives without the right explanation; the less they overlap, the "
    "more the score means.",
    "cumulative": "The share of features whose score is at most the value below: a curve further "
    "to the right is better throughout.",
    "medians": "The median feature of each with its 95 % interval, by bootstrap over features.",
    "intervals": "Single features in the order of their scores with 95 % intervals (dots), and "
    "what another feature's explanation scored on the same examples (hollow): a feature counts as "
    "told apart where the interval lies above the hollow dot.",
    "strata": "The mean over features for each stratum of the activations, 0 being the weakest: an "
    "explanation that fits only the strongest ones falls off to the left.",
    "tiers": "The mean score against each kind of negatives: how much of it is left where the "
    "texts look alike.",
    "agreement": "Each dot is a feature scored twice; above the diagonal Spearman's correlation of "
    "the two scorers with its 95 % interval: scorers that disagree measure different things.",
    "cost": "Means per feature, of the score itself (blue) and of its baselines (grey).",
}


class _Html(str):
    """A cell that is HTML already."""


def report_page(report: Mapping[str, Any]) -> str:
    """HTML of what ``build_report`` made (or of its JSON, read back), in one file."""
    return page(str(report["name"]), report_body(report))


def report_body(report: Mapping[str, Any], address: LinkOf | None = None) -> str:
    """What stands on that page below its title; with ``address`` features are links."""
    parts = [_overview(report)]
    parts += [_scorer(name, each, report, address) for name, each in report["scorers"].items()]
    if report["agreement"]:
        matrix = charts.scatters(list(report["scorers"]), report["agreement"], address)
        parts.append(f"<h2>Agreement</h2>{_captioned('agreement', 'Spearman', matrix)}")
    parts.append(f'<h2>Cost</h2><div class="plots">{"".join(_costs(report))}</div>')
    if report["duplicates"] is not None:
        parts.append(_duplicates(report["duplicates"], address))
    return "".join(parts)


def _overview(report: Mapping[str, Any]) -> str:
    head = ["scorer", "metric", "features", "median", "gain over shuffled", "told apart"]
    head += ["after Benjamini-Hochberg", "precision in text", "failed"]
    if report["reference"]:
        head.append(f"P(above {report['reference']})")
    rows = []
    for name, each in report["scorers"].items():
        intervals = each["intervals"]
        discoveries = intervals["discoveries"]
        row = [
            name,
            each["metric"],
            number(each["features"]),
            _interval(each["series"]["own"]["median"]),
            _interval(each["gains"].get("shuffled")),
            _interval(intervals["above"]) if intervals["n"] else "",
            f"{discoveries['count']:,} of {discoveries['n']:,}" if intervals["n"] else "",
            _interval(each["natural_precision"]),
            "" if each["failed_share"] is None else f"{each['failed_share']:.1%}",
        ]
        if report["reference"]:
            row.append(_interval(each["above_reference"]))
        rows.append(row)
    return (
        f"<p>{report['features']:,} features. In brackets: 95 % intervals.</p>{_table(head, rows)}"
    )


def _scorer(
    name: str, section: Mapping[str, Any], report: Mapping[str, Any], address: LinkOf | None
) -> str:
    colours = key([_series_name(each, report) for each in section["series"]])
    figures = [
        _captioned("histogram", "Distribution", charts.histogram(section) + colours),
        _captioned("cumulative", "Cumulative", charts.cumulative(section) + colours),
        _captioned("medians", "Medians", charts.medians(section) + colours),
    ]
    if section["drawn"]:
        figures.append(_captioned("intervals", "Intervals", charts.intervals(section, address)))
    if len(section["strata"]) > 1:
        measure = "Recall" if section["metric"] == "balanced_accuracy" else str(section["metric"])
        drawing = charts.by_name(section["strata"], ordered=True)
        figures.append(_captioned("strata", f"{measure} by strength of activation", drawing))
    if len(section["tiers"]) > 1:
        drawing = charts.by_name(section["tiers"], ordered=False)
        figures.append(_captioned("tiers", "By kind of negatives", drawing))
    head = ["feature", "score", "explanation"]
    lists = "".join(
        f"<details><summary>{title}</summary>"
        f"{_table(head, _features(section[which], address))}</details>"
        for which, title in (("worst", "Lowest scores"), ("best", "Highest scores"))
    )
    heading = f"{html.escape(name)} <small>({html.escape(str(section['metric']))})</small>"
    plots = f'<div class="plots">{"".join(figures)}</div>'
    return f"<h2>{heading}</h2>{plots}{_calibration(section)}{lists}"


def _calibration(section: Mapping[str, Any]) -> str:
    counts, null = section["intervals"], section["intervals"]["null"]
    if not counts["n"]:
        return ""
    fdr = counts["discoveries"]
    words = (
        f"Of {counts['n']:,} features, {counts['above']['value']:.1%} have an interval above their "
        f"shuffled baseline and {counts['below']['value']:.1%} one below. One by one, "
        f"{fdr['uncorrected']:,} lie above it with p at most {fdr['rate']:g}, as would up to "
        f"{fdr['rate'] * fdr['n']:,.0f} by chance alone; {fdr['count']:,} remain at a false "
        f"discovery rate of {fdr['rate']:.0%} (Benjamini and Hochberg)."
    )
    if null["value"] is not None:
        words += (
            f" Of the shuffled explanations' own intervals {_interval(null)} exclude chance, where "
            "5 % would if they held no information."
        )
    return f'<p class="says">{html.escape(words)}</p>'


def _costs(report: Mapping[str, Any]) -> list[str]:
    parts = {name: each["cost"] for name, each in report["scorers"].items()}
    figures = [_captioned("cost", "Tokens per feature", charts.costs(parts, "tokens"))]
    if report["priced"]:
        figures.append(_captioned("cost", "Price per feature", charts.costs(parts, "cost")))
    return figures


def _duplicates(summary: Mapping[str, Any], address: LinkOf | None) -> str:
    shared = 0.0 if summary["shared"] is None else summary["shared"]
    words = (
        f"{summary['n_shared']:,} of {summary['n_features']:,} features ({shared:.1%}) share their "
        f"explanation with another, in {summary['n_clusters']:,} clusters, "
        f"{summary['n_exact']:,} of them word for word."
    )
    if summary["decoders_known"]:
        words += (
            f" In {summary['decoders_agree']:,} clusters the decoder directions agree too; in the "
            "others the label is too coarse to tell different features apart."
        )
    head = ["features", "wording", "lowest cosine", "decoders: mean cosine", "agree"]
    rows = []
    for each in summary["clusters"]:
        decoders = each["decoders"] or {}
        few = ", ".join(_feature(index, address) for index in each["features"][:8])
        rows.append(
            [
                _Html(f"{len(each['features']):,}: {few}{', …' * (len(each['features']) > 8)}"),
                " / ".join(each["texts"][:3]),
                "equal" if each["lowest_cosine"] is None else f"{each['lowest_cosine']:.3f}",
                f"{decoders['mean']:.3f}" if decoders.get("mean") is not None else "",
                {True: "yes", False: "no", None: ""}[each["decoders_agree"]],
            ]
        )
    table = _table(head, rows) if rows else ""
    return f"<h2>Duplicate labels</h2><p>{html.escape(words)}</p>{table}"


def _features(listed: Sequence[Mapping[str, Any]], address: LinkOf | None) -> list[list[str]]:
    return [
        [_Html(_feature(each["feature"], address)), _interval(each), each["explanation"]]
        for each in listed
    ]


def _feature(index: int, address: LinkOf | None) -> str:
    return str(index) if address is None else f'<a href="{html.escape(address(index))}">{index}</a>'


def _series_name(name: str, report: Mapping[str, Any]) -> str:
    if name == REFERENCE:
        return str(report["reference"])
    return {"own": "explanation", "shuffled": "another's", "empty": "none"}.get(name, name)


def _captioned(name: str, title: str, drawing: str) -> str:
    return figure(title, drawing, f'<p class="says">{html.escape(_CAPTIONS[name])}</p>')


def _interval(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return ""
    ends = ["…" if estimate[end] is None else fixed(estimate[end], 3) for end in ("low", "high")]
    return f"{fixed(estimate['value'], 3)} [{ends[0]}, {ends[1]}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Every cell is escaped, unless it is ``_Html``."""
    top = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    table = f"<table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"
    return f'<div class="tablebox">{table}</div>'


def _cell(words: str) -> str:
    if isinstance(words, _Html):
        return f"<td>{words}</td>"
    css = ' class="words"' if len(words) > 40 else ""
    return f"<td{css}>{html.escape(words)}</td>"
