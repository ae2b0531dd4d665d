"""``monosemy graph supernodes``: what is computed of stored graphs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from monosemy.specs.rest.supernodes import MOST_GROUPED
from service.cli.client import segment
from service.cli.connect import connect
from service.cli.graph_argument import GraphArgument
from service.cli.output import (
    JsonFlag,
    number,
    print_json,
    print_table,
    printable,
    readable_errors,
    tell,
)

_EDGES = 10


@readable_errors
def supernodes(
    graph: GraphArgument,
    features: Annotated[
        int | None,
        typer.Option(min=2, max=MOST_GROUPED, help="Of so many features of the most influence."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Propose groups of features that do the same, beside what shuffled graphs come to.

    Example: monosemy graph supernodes texas
    """
    made = connect().get(f"/graphs/{segment(graph)}/supernodes", features=features)
    if as_json:
        print_json(made)
        return
    groups = made["supernodes"]
    rows = [
        (
            printable(each["name"]),
            ", ".join(map(str, each["nodes"])),
            each["why"],
            number(each["similarity"], ".2f"),
            number(each["least"], ".2f"),
            number(each["p"], ".2f"),
            _shared(each["fed_by"]),
            _shared(each["feeds"]),
        )
        for each in groups
    ]
    columns = (
        "supernode",
        "nodes",
        "why",
        "similarity",
        "by chance",
        "p",
        "all fed by",
        "all feed",
    )
    print_table(columns, rows)
    tell(
        f"Of {made['features']} features of {made['of_features']}, {made['labelled']} with an"
        f" embedded explanation, beside {made['shuffles']} shuffled graphs. {made['refused']} pairs"
        " were left apart because a path leaves them and comes back."
    )
    edges = [
        (groups[each["source"]]["name"], groups[each["target"]]["name"], f"{each['weight']:+.4g}")
        for each in made["edges"][:_EDGES]
    ]
    if edges:
        print_table(("from", "to", "weight"), edges)


def _shared(edges: list[dict[str, Any]]) -> str:
    return ", ".join(f"{printable(each['label'])} {each['share']:+.0%}" for each in edges)
