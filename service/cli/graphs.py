"""``monosemy graph``: attribution graphs, how prompts become their next tokens."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from monosemy.specs.graphs import MOST_PROMPTS
from service.cli.client import segment
from service.cli.connect import connect
from service.cli.following import run_and_show
from service.cli.graph_argument import GraphArgument
from service.cli.graph_heads import heads, score
from service.cli.graph_shown import show_graph, show_listed
from service.cli.graph_steering import steer
from service.cli.output import (
    JsonFlag,
    fail,
    print_json,
    print_table,
    printable,
    readable_errors,
    tell,
)

app = typer.Typer(
    no_args_is_help=True, help="Trace attribution graphs, look at them, take them in and out."
)
Limit = Annotated[int, typer.Option(min=1, max=200, help="Most that are shown.")]


class Kind(StrEnum):
    """Of nodes."""

    feature = "feature"
    error = "error"
    token = "token"
    position = "position"
    bias = "bias"
    logit = "logit"


class Made(StrEnum):
    """Kinds of runs that make graphs."""

    graph = "graph"
    feature_circuit = "feature_circuit"


class End(StrEnum):
    """Which edges of a node."""

    into = "in"
    out = "out"


class Form(StrEnum):
    """Of files."""

    attribution_graph = "attribution-graph"
    npz = "npz"


@app.command()
@readable_errors
def trace(
    prompt: Annotated[str | None, typer.Argument(help="As the host model reads it.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="File of prompts instead, one a line: a graph of each.")
    ] = None,
    in_set: Annotated[
        str | None, typer.Option("--set", help="Set of SAEs that write what MLPs add.")
    ] = None,
    sae: Annotated[
        list[str] | None,
        typer.Option(help="An SAE instead, or beside the set; may be given again."),
    ] = None,
    token: Annotated[
        list[str] | None,
        typer.Option(
            help="Next token to explain, with its leading space; may be given again. Left out: the"
            " likeliest."
        ),
    ] = None,
    than: Annotated[
        str | None, typer.Option(help="Explain how much likelier the one --token is than this.")
    ] = None,
    features: Annotated[
        int | None, typer.Option(min=0, help="Most features whose inputs are traced.")
    ] = None,
    untraced: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the influence left untraced.")
    ] = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="GPUs that trace together; of a CPU, threads.")
    ] = None,
    nodes: Annotated[
        float | None, typer.Option(max=1, help="Share of the influence of nodes that is kept.")
    ] = None,
    edges: Annotated[
        float | None, typer.Option(max=1, help="Share of the influence of edges that is kept.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Check it by ablation in the host model.")
    ] = True,
    name: Annotated[str | None, typer.Option(help="Of the graph.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Trace how a prompt becomes its next token, or each of several.

    Example: monosemy graph trace "The capital of Texas is" --set tc --token " Austin"
    """
    if than is not None and len(token or []) != 1:
        raise typer.BadParameter("it needs one --token", param_hint="--than")
    spec: dict[str, Any] = {"kind": "graph", **_prompts(prompt, prompts)}
    if than is not None and token:
        spec["goals"] = {"of": "difference", "token": token[0], "other": than}
    elif token:
        spec["goals"] = {"of": "tokens", "tokens": token}
    given = (
        {"features": features, "untraced": untraced, "devices": devices},
        {"nodes": nodes, "edges": edges},
    )
    for part, options in zip(("trace", "pruning"), given, strict=True):
        wanted = {key: value for key, value in options.items() if value is not None}
        spec |= {part: wanted} if wanted else {}
    spec |= {} if check else {"check": None}
    spec |= {"set": in_set} if in_set is not None else {}
    spec |= {"saes": sae} if sae else {}
    spec |= {"name": name} if name is not None else {}
    if prompts is None:
        run_and_show(spec, "/graphs/{run}", show_graph, as_json)
    else:
        asked = {"run": "{run}", "limit": MOST_PROMPTS}
        run_and_show(spec, "/graphs", lambda page: show_listed(page["items"]), as_json, **asked)


def _prompts(prompt: str | None, file: Path | None) -> dict[str, Any]:
    if (prompt is None) == (file is None):
        raise typer.BadParameter("give either a prompt or --prompts", param_hint="PROMPT")
    if file is None:
        return {"prompt": prompt}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(str(error), param_hint="--prompts") from None
    return {"prompts": [line for line in lines if line.strip()]}


@app.command("list")
@readable_errors
def list_(
    kind: Annotated[
        Made | None, typer.Option(help="Only those that runs of this kind make.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only those of this host model.")] = None,
    in_set: Annotated[
        str | None, typer.Option("--set", help="Only those made with this set.")
    ] = None,
    search: Annotated[
        str | None, typer.Option(help="Only those whose prompts have all these words.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="Only those that this run traced.")] = None,
    limit: Limit = 50,
    as_json: JsonFlag = False,
) -> None:
    """List graphs, newest first.

    Example: monosemy graph list --search capital
    """
    made = None if kind is None else kind.value
    asked = {"kind": made, "model": model, "set": in_set, "search": search, "run": run}
    page = connect().get("/graphs", **asked, limit=limit)
    if as_json:
        print_json(page)
        return
    show_listed(page["items"])


@app.command()
@readable_errors
def show(graph: GraphArgument, as_json: JsonFlag = False) -> None:
    """Show what a graph explains, its scores, and what ablation says of it.

    Example: monosemy graph show texas
    """
    shown = connect().get(f"/graphs/{segment(graph)}")
    if as_json:
        print_json(shown)
        return
    show_graph(shown)


@app.command()
@readable_errors
def nodes(
    graph: GraphArgument,
    kind: Annotated[Kind | None, typer.Option(help="Only those of this kind.")] = None,
    layer: Annotated[int | None, typer.Option(help="Only those of this layer.")] = None,
    position: Annotated[int | None, typer.Option(help="Only those at this token, from 0.")] = None,
    search: Annotated[
        str | None, typer.Option(help="A piece of their label, or of their token.")
    ] = None,
    limit: Limit = 20,
    as_json: JsonFlag = False,
) -> None:
    """List the nodes through which most influence flows.

    Example: monosemy graph nodes texas --kind feature --search capital
    """
    client, path = connect(), f"/graphs/{segment(graph)}"
    wanted = None if kind is None else kind.value
    asked = {"kind": wanted, "layer": layer, "position": position, "search": search}
    page = client.get(f"{path}/nodes", limit=limit, **asked)
    if as_json:
        print_json(page)
        return
    whole = client.get(path)
    tokens, sites = whole["tokens"], whole["sites"]
    rows = [
        (
            str(each["node"]),
            *_which(each, tokens, sites),
            f"{each['value']:.3g}",
            f"{each['influence']:.4f}",
        )
        for each in page["items"]
    ]
    print_table(("node", "kind", "layer", "token", "label", "value", "influence"), rows)


@app.command()
@readable_errors
def edges(
    graph: GraphArgument,
    node: Annotated[int, typer.Argument(min=0, help="Number of the node.")],
    end: Annotated[End, typer.Option(help="Edges that lead to it, or from it.")] = End.into,
    limit: Limit = 20,
    as_json: JsonFlag = False,
) -> None:
    """List the largest edges of a node.

    Example: monosemy graph edges texas 12 --end out
    """
    path = f"/graphs/{segment(graph)}/nodes/{node}/edges"
    client = connect()
    page = client.get(path, end=end.value, limit=limit)
    if as_json:
        print_json(page)
        return
    whole = client.get(f"/graphs/{segment(graph)}")
    tokens, sites = whole["tokens"], whole["sites"]
    rows = [
        (
            str(each["other"]),
            *_which(each, tokens, sites),
            f"{each['weight']:+.4g}",
        )
        for each in page["items"]
    ]
    far = "from" if end == End.into else "to"
    print_table((far, "kind", "layer", "token", "label", "weight"), rows)
    others = [each["other"] for each in page["items"]]
    if len({*others}) < len(others):
        tell(
            "A node that stands twice is an error: one of its edges, or both, hold what was merged"
            " into it from pruned features, positive and negative parts apart."
        )


app.command()(steer)
app.command()(heads)
app.command()(score)


@app.command()
@readable_errors
def export(
    graph: GraphArgument,
    destination: Annotated[Path, typer.Argument(help="File to write.")],
    form: Annotated[
        Form,
        typer.Option(help="JSON of circuit-tracer's and Neuronpedia's viewers, or arrays."),
    ] = Form.attribution_graph,
) -> None:
    """Write a graph to a file.

    Example: monosemy graph export texas texas.json
    """
    path = f"/graphs/{segment(graph)}/file"
    if destination.exists():
        fail(f"{destination} is there already.")
    size = connect().download(path, destination, form=form.value)
    tell(f"Wrote {destination} ({size:,} bytes).")


@app.command("import")
@readable_errors
def import_(
    file: Annotated[Path, typer.Argument(help="Attribution-graph JSON.")],
    as_json: JsonFlag = False,
) -> None:
    """Take in a graph of circuit-tracer, Neuronpedia or monosemy.

    Example: monosemy graph import gemma-fact-dallas-austin.json
    """
    header = connect().send("/graphs/upload", file)
    if as_json:
        print_json(header)
        return
    tell(f"Took in {header['name']}: {header['nodes']} nodes, {header['edges']} edges.")


@app.command()
@readable_errors
def delete(graph: GraphArgument) -> None:
    """Delete a graph; its run stays.

    Example: monosemy graph delete texas
    """
    connect().delete(f"/graphs/{segment(graph)}")
    tell(f"Deleted the graph {graph}.")


def _layer(layer: int, sites: list[str]) -> str:
    if sites:
        return sites[layer] if 0 <= layer < len(sites) else ""
    return "" if layer < 0 else str(layer)


def _token(tokens: list[str], place: int) -> str:
    return f"{place} {printable(tokens[place])}" if 0 <= place < len(tokens) else ""


def _which(node: dict[str, Any], tokens: list[str], sites: list[str]) -> tuple[str, ...]:
    """Cells that say which node it is: kind, layer, token, label."""
    return (
        node["kind"],
        _layer(node["layer"], sites),
        _token(tokens, node["position"]),
        printable(node["label"]),
    )
