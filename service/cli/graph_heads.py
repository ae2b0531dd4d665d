"""``monosemy graph heads`` and ``monosemy graph score``: attention behind a graph."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli.client import segment
from service.cli.connect import connect
from service.cli.graph_argument import GraphArgument
from service.cli.output import JsonFlag, print_json, print_table, printable, readable_errors, tell


@readable_errors
def heads(
    graph: GraphArgument,
    target: Annotated[int, typer.Argument(min=0, help="Number of a feature's node or a goal's.")],
    source: Annotated[
        int | None, typer.Argument(min=0, help="Number of the node that feeds it.")
    ] = None,
    token: Annotated[
        int | None, typer.Option(min=0, help="A token instead: what heads bring from there.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="Heads shown.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """Show which heads carry an edge of a graph from token to token.

    Example: monosemy graph heads texas 340 12
    """
    if (source is None) == (token is None):
        raise typer.BadParameter("name a SOURCE, or --token", param_hint="SOURCE")
    body = {"target": target, "source": source, "token": token, "top": top}
    answer = connect().post(f"/graphs/{segment(graph)}/heads", body)
    if as_json:
        print_json(answer)
        return
    tell(f"The {'edge' if token is None else 'target'} is {answer['value']:+.4f}.")
    rows = [
        (str(each["layer"]), str(each["head"]), f"{each['value']:+.4f}") for each in answer["heads"]
    ]
    print_table(("layer", "head", "carries"), rows)
    layers = [
        (str(each["layer"]), f"{each['heads']:+.4f}", f"{each['bypass']:+.4f}")
        for each in answer["layers"]
    ]
    print_table(("layer", "through its heads", "past them"), layers)


@readable_errors
def score(
    graph: GraphArgument,
    layer: Annotated[int, typer.Argument(min=0, help="Layer of the head, from 0.")],
    head: Annotated[int, typer.Argument(min=0, help="Number of the head in it, from 0.")],
    token: Annotated[int, typer.Argument(min=0, help="The token that looks, from 0.")],
    source: Annotated[int, typer.Argument(min=0, help="The token that it looks at.")],
    listed: Annotated[int, typer.Option(min=1, max=200, help="Pairs and sources shown.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """Show why a head looks from one token of a graph's prompt at another.

    Example: monosemy graph score texas 4 7 9 3
    """
    client, path = connect(), f"/graphs/{segment(graph)}"
    body = {"layer": layer, "head": head, "token": token, "source": source, "listed": listed}
    answer = client.post(f"{path}/score", body)
    if as_json:
        print_json(answer)
        return
    shown = client.get(path)
    tokens, saes = shown["tokens"], shown["saes"]
    tell(
        f"Head {head} of layer {layer} gives {printable(tokens[source])} {answer['weight']:.1%} of "
        f"its attention at {printable(tokens[token])}: score {answer['score']:.3f}, on average "
        f"{answer['average']:.3f}."
    )
    sides = [[_source(each, tokens, saes) for each in answer[side]] for side in ("query", "key")]
    pairs = [
        (
            " ".join(sides[0][each["query"]]).strip(),
            " ".join(sides[1][each["key"]]).strip(),
            f"{each['relative']:+.3f}",
            f"{each['score']:+.3f}",
        )
        for each in answer["pairs"]
    ]
    title = "pairs" if answer["exact"] else "pairs (others may be as large)"
    print_table(("query", "key", "relative", "score"), pairs, title=title)
    for side, names in zip(("query", "key"), sides, strict=True):
        rows = [
            (*name, f"{each['relative']:+.3f}", f"{each['score']:+.3f}")
            for name, each in zip(names, answer[side], strict=True)
        ]
        print_table((side, "label", "relative", "score"), rows)


def _source(each: dict[str, Any], tokens: list[str], saes: list[str]) -> tuple[str, str]:
    """(what it is, its label)."""
    place = each["position"]
    at = "" if place is None else f" at {place} {printable(tokens[place])}"
    node = "" if each["node"] is None else f" (node {each['node']})"
    if each["kind"] == "feature":
        return f"{printable(saes[each['coder']])}/{each['latent']}{at}{node}", printable(
            each["label"] or ""
        )
    names = {"head": "the head's own biases", "bias": f"{each['bias']} bias"}
    name = names.get(each["kind"], each["kind"])
    if each["kind"] == "error":
        name = f"error of {each['branch']} in layer {each['layer']}"
    return f"{name}{at}{node}", ""
