"""``monosemy graph common``: what stored graphs share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from monosemy.figures import plural
from monosemy.specs.rest.common_graphs import MOST_UNITS
from service.cli.connect import connect
from service.cli.output import (
    JsonFlag,
    print_json,
    print_table,
    printable,
    readable_errors,
    tell,
)

_EDGES = 10


class Align(StrEnum):
    """When parts of two graphs are the same."""

    sum = "sum"
    end = "end"
    token = "token"


@readable_errors
def common(
    graphs: Annotated[
        list[str] | None, typer.Argument(help="Names or ids; two or more.", metavar="GRAPH...")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="All graphs of a run of several prompts instead.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="A graph of another prompt to hold them against; may be given again."),
    ] = None,
    align: Annotated[
        Align,
        typer.Option(
            help="Features whatever their tokens, as many tokens before the end, or at the same"
            " token."
        ),
    ] = Align.sum,
    least: Annotated[
        int | None, typer.Option(min=2, help="Only what stands in so many graphs.")
    ] = None,
    features: Annotated[
        int | None, typer.Option(min=1, max=MOST_UNITS, help="Most that are listed.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what graphs of several prompts have in common, beside chance.

    Example: monosemy graph common texas-1 texas-2 texas-3 --against weather
    """
    asked = {"align": align.value, "least": least, "features": features, "run": run}
    named = {"graph": graphs or [], "against": against or []}
    made = connect().get("/graphs/common", **asked, **named)
    if as_json:
        print_json(made)
        return
    _show_overlap(made)
    rows = [
        (
            str(each["graphs"]),
            _interval(each["by_chance"], ".1f"),
            str(each["features"]),
        )
        for each in made["counts"]
    ]
    print_table(("graphs", "features by chance", "features"), rows)
    units = made["units"]
    columns = ("feature", "layer/latent", "graphs", "share of influence", "positive", "by chance")
    beside = ("graphs against", "more than there") if made["against"] else ()
    listed = [each for each in units if each["kind"] == "feature"]
    print_table(
        (*columns, "q", *beside),
        [(*_feature(each), *(_against(each, made) if beside else ())) for each in listed],
    )
    edges = [
        (
            _end(units[each["source"]]),
            _end(units[each["target"]]),
            f"{each['graphs']} of {made['n']}",
            f"{each['weight']:+.3g}",
            f"{each['flow']['value']:.2%}",
            f"{each['chance']['q']:.2g}",
        )
        for each in made["edges"][:_EDGES]
    ]
    print_table(("from", "to", "graphs", "weight", "share of influence", "q"), edges)


def _show_overlap(made: dict[str, Any]) -> None:
    own = made["overlap"]
    says = f"{made['n']} graphs overlap by {own['within']:.2f}"
    if own["interval"] is not None:
        says += f" ({own['interval']['low']:.2f} to {own['interval']['high']:.2f})"
    if own["by_chance"] is not None:
        says += f"; features that fire, drawn at random, by {own['by_chance']:.2f}"
    if own["against"] is not None:
        says += (
            f"; with {plural(made['n_against'], 'graph')} of other prompts by {own['against']:.2f}"
            f" (p {own['p']:.2g} of {own['divisions']} divisions)"
        )
    stable = f", {made['stable']} of them beyond chance" if made["has_null"] else ""
    tell(
        f"{says}. {made['features']} features stand in {made['least']} graphs or more{stable}."
        f"{_least_q(made)}"
    )
    if made["n"] == 2:
        tell("Two prompts say little: intervals have one degree of freedom, the overlap has none.")
    if not made["has_null"]:
        tell("A graph does not know what fires on its prompt: nothing is held against chance.")


def _least_q(made: dict[str, Any]) -> str:
    """How near chance the listed features are, where none is beyond it."""
    q = [each["chance"]["q"] for each in made["units"] if each["chance"] is not None]
    if made["stable"] or not q:
        return ""
    return (
        f" The least q of those listed is {min(q):.2g}, where .05 is beyond chance: with"
        f" {made['n']} graphs even one that stands in all of them may do so by chance."
    )


def _against(unit: dict[str, Any], made: dict[str, Any]) -> tuple[str, str]:
    there = f"{unit['against_graphs']} of {made['n_against']}"
    return there, _interval(unit["difference"], "+.2%")


def _end(unit: dict[str, Any]) -> str:
    """Of an edge: a feature's label does not say which it is."""
    label = printable(unit["label"])
    place = _place(unit)
    return label if unit["kind"] != "feature" or label == place else f"{label} ({place})"


def _place(unit: dict[str, Any]) -> str:
    at = "" if unit["place"] is None else f" at {printable(unit['place'])}"
    branch = ".attn" if unit["branch"] == "attention" else ""
    return f"{unit['layer']}{branch}/{unit['latent']}{at}"


def _feature(unit: dict[str, Any]) -> tuple[str, ...]:
    chance = unit["chance"]
    return (
        printable(unit["label"]),
        _place(unit),
        str(unit["graphs"]),
        _interval(unit["share"], ".2%"),
        f"{unit['positive']} of {unit['graphs']}",
        "-" if chance is None else f"{chance['expected']:.2f}",
        "-" if chance is None else f"{chance['q']:.2g}",
    )


def _interval(figure: dict[str, Any] | None, how: str) -> str:
    if figure is None:
        return "-"
    value, low, high = (format(figure[name], how) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
