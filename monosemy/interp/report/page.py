"""The report as one page that opens anywhere: inline SVG, no script, nothing loaded."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from monosemy.figures import THIN, fixed, number, percent, plural
from monosemy.interp import metric_words, strata
from monosemy.interp.report import charts
from monosemy.interp.report.charts import LinkOf
from monosemy.interp.report.measures import REFERENCE
from monosemy.svg import figure, key, page

_CAPTIONS = {
    "histogram": "The share of features (upwards) by score: bars are the explanations' own, "
    "outlines what the same judge gives without the right explanation; the less they overlap, the "
    "more the score means.",
    "beside": "The share of features (upwards) by score: bars are the first one's, outlines the "
    "others'.",
    "cumulative": "The share of features whose score is at most the value below: a curve further "
    "to the right is better throughout.",
    "medians": "The median feature of each with its 95 % interval, by bootstrap over features.",
    "gains": "The median of each feature's gain, its score minus its own baseline on the same "
    "texts, with its 95 % interval. It is not the difference of the medians beside it.",
    "intervals": "Single features in the order of their scores with 95 % intervals (dots), and "
    "the shuffled baseline, what another feature's explanation scored on the same examples "
    "(hollow): a feature counts as told apart where the interval lies above the hollow dot.",
    "strata": "The mean over features, with its 95 % interval, for each {part} of the activations "
    "by strength, from 1 (weakest) to {count} (strongest): an explanation that fits only the "
    "strongest ones falls off to the left. {untested}",
    "tiers": "The mean score against each kind of negatives: how much of it is left where the "
    "texts look alike.",
    "agreement": "Each dot is a feature scored twice; above the diagonal Spearman's correlation of "
    "the two scorers with its 95 % interval, which runs from −1 to 1 where the features are too "
    "few to say anything: scorers that disagree measure different things.",
    "cost": "Tokens of prompts and answers, means per feature: of the score itself (blue) and of "
    "its baselines (grey). A scorer that asks no judge works on this server alone.",
    "price": "The same by the price of the judge's tokens.",
}
_SERIES = {
    "own": "explanation",
    "shuffled": "shuffled baseline",
    "empty": "empty explanation",
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
        parts.append(f"<h2>Agreement</h2>{captioned('agreement', 'Spearman', matrix)}")
    parts.append(f'<h2>Cost</h2><div class="plots">{"".join(_costs(report))}</div>')
    if report["duplicates"] is not None:
        parts.append(_duplicates(report["duplicates"], address))
    return "".join(parts)


def _overview(report: Mapping[str, Any]) -> str:
    columns: dict[str, list[str]] = {}
    for name, each in report["scorers"].items():
        known = each["intervals"]
        discoveries = known["discoveries"]
        row = {
            "scorer": name,
            "metric, higher is better": metric_words.name(each["metric"]),
            "features": number(each["features"]),
            "median": _interval(each["series"]["own"]["median"]),
            "median of each one's gain over shuffled": _interval(each["gains"].get("shuffled")),
            "told apart from shuffled": _shares(known["above"]) if known["n"] else "",
            f"told apart at FDR {percent(discoveries['rate'])}": (
                f"{discoveries['count']:,} of {discoveries['n']:,}" if known["n"] else ""
            ),
            "precision in text": _interval(each["natural_precision"]),
            "judgements failed": percent(each["failed_share"]) if each["judgements"] else "",
        }
        if report["reference"]:
            row[f"P(above {report['reference']})"] = _interval(each["above_reference"])
        for head, cell in row.items():
            columns.setdefault(head, []).append(cell)
    shown = {head: cells for head, cells in columns.items() if any(cells)}
    rows = [list(cells) for cells in zip(*shown.values(), strict=True)]
    features = plural(report["features"], "feature")
    scores = table("Scores by scorer", list(shown), rows)
    return f"<p>{features}. In brackets: 95 % intervals.</p>{scores}"


def _scorer(
    name: str, section: Mapping[str, Any], report: Mapping[str, Any], address: LinkOf | None
) -> str:
    names = [_series_name(each, report) for each in section["series"]]
    colours, lines = key(names), key(names, lines=True)
    figures = [
        captioned("histogram", "Distribution", charts.histogram(section) + colours),
        captioned("cumulative", "Cumulative", charts.cumulative(section) + lines),
        captioned("medians", "Medians", charts.medians(section)),
    ]
    if any(section["gains"].values()):
        figures.append(captioned("gains", "Gain over the baseline", charts.gains(section)))
    if section["drawn"]:
        drawing = charts.intervals(section, address)
        figures.append(captioned("intervals", "Intervals of single features", drawing))
    if len(section["strata"]) > 1:
        figures.append(_strata(section))
    if len(section["tiers"]) > 1:
        drawing = charts.by_name(section["tiers"], line=section["chance"])
        figures.append(captioned("tiers", "By kind of negatives", drawing))
    head = ["feature", "score", "n", "explanation"]
    lists = "".join(
        f"<details><summary>{title}</summary>"
        f"{table(f'{title} by {name}', head, _features(section[which], address))}</details>"
        for which, title in (("worst", "Lowest scores"), ("best", "Highest scores"))
    )
    metric = html.escape(metric_words.heading(str(section["metric"])))
    heading = f"{html.escape(name)} <small>{metric}</small>"
    plots = f'<div class="plots">{"".join(figures)}</div>'
    return f"<h2>{heading}</h2>{_calibration(section)}{plots}{lists}"


def _strata(section: Mapping[str, Any]) -> str:
    count = strata.how_many(section["strata"])
    by_recall = section["metric"] == "balanced_accuracy"
    measure = "recall" if by_recall else metric_words.name(str(section["metric"]))
    says = _CAPTIONS["strata"].format(
        part=strata.part(count), count=count, untested=strata.untested(section["strata"])
    )
    title = f"{measure[:1].upper()}{measure[1:]} by strength of activation"
    return _said(title, charts.by_stratum(section), says.strip())


def _calibration(section: Mapping[str, Any]) -> str:
    counts, null = section["intervals"], section["intervals"]["null"]
    if not counts["n"]:
        return ""
    fdr = counts["discoveries"]
    features = plural(counts["n"], "feature")
    words = (
        f"{fdr['count']:,} of {features} told apart from the shuffled baseline at a false "
        f"discovery rate of {percent(fdr['rate'])} (Benjamini and Hochberg). One by one, "
        f"{_shares(counts['above'])} have an interval above their shuffled baseline and "
        f"{_shares(counts['below'])} one below; {fdr['uncorrected']:,} "
        f"{'lies' if fdr['uncorrected'] == 1 else 'lie'} above it with p at most "
        f"{fdr['rate']:g}, where chance alone would put at most "
        f"{fdr['rate'] * fdr['n']:,.1f} on average."
    )
    if section["drawn"]:
        widths = [high - low for _, low, high, _ in section["drawn"]]
        each = number(section["judgements"] / max(section["features"], 1))
        words += (
            f" With {each} judgements a feature the intervals are {fixed(median(widths))} wide at "
            "the median: an explanation whose lead is small beside that cannot be told apart, "
            "however good it is."
        )
    if null["value"] is not None:
        words += (
            f" Of the shuffled explanations' own intervals {_shares(null)} exclude chance, where "
            f"5{THIN}% would if they held no information."
        )
    return f'<p class="says">{html.escape(words)}</p>'


def _costs(report: Mapping[str, Any]) -> list[str]:
    parts = {name: each["cost"] for name, each in report["scorers"].items()}
    figures = [captioned("cost", "Tokens per feature", charts.costs(parts, "tokens"))]
    if report["priced"]:
        figures.append(captioned("price", "Price per feature", charts.costs(parts, "cost")))
    return figures


def _duplicates(summary: Mapping[str, Any], address: LinkOf | None) -> str:
    shared = 0.0 if summary["shared"] is None else summary["shared"]
    words = (
        f"{summary['n_shared']:,} of {summary['n_features']:,} features ({percent(shared)}) share "
        f"their explanation with another, in {summary['n_clusters']:,} clusters, "
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
    shared_labels = table("Duplicate labels", head, rows) if rows else ""
    return f"<h2>Duplicate labels</h2><p>{html.escape(words)}</p>{shared_labels}"


def _features(listed: Sequence[Mapping[str, Any]], address: LinkOf | None) -> list[list[str]]:
    return [
        [
            _Html(_feature(each["feature"], address)),
            _interval(each),
            number(each["n"]),
            each["explanation"],
        ]
        for each in listed
    ]


def _feature(index: int, address: LinkOf | None) -> str:
    return str(index) if address is None else f'<a href="{html.escape(address(index))}">{index}</a>'


def _series_name(name: str, report: Mapping[str, Any]) -> str:
    if name == REFERENCE:
        return str(report["reference"])
    return _SERIES.get(name, name)


def captioned(name: str, title: str, drawing: str) -> str:
    return _said(title, drawing, _CAPTIONS[name])


def _said(title: str, drawing: str, says: str) -> str:
    return figure(title, drawing, f'<p class="says">{html.escape(says)}</p>')


def _interval(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return ""
    ends = ["…" if estimate[end] is None else fixed(estimate[end]) for end in ("low", "high")]
    return f"{fixed(estimate['value'])} ({ends[0]} to {ends[1]})"


def _shares(estimate: Mapping[str, Any]) -> str:
    shown = [percent(estimate[end]) for end in ("value", "low", "high")]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def table(name: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Every cell is escaped, unless it is ``_Html``; ``name`` tells the table from others."""
    top = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    whole = f"<table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"
    # It scrolls where it is wide, so that a keyboard must reach it.
    about = f'tabindex="0" role="region" aria-label="{html.escape(name)}"'
    return f'<div class="tablebox" {about}>{whole}</div>'


def _cell(words: str) -> str:
    if isinstance(words, _Html):
        return f"<td>{words}</td>"
    css = ' class="words"' if len(words) > 40 else ""
    return f"<td{css}>{html.escape(words)}</td>"
