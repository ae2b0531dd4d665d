"""``monosemy feature-circuit``: which features carry a difference between pairs of prompts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from monosemy.data.tasks.own_pairs import read_pairs
from service.cli.following import run_and_show
from service.cli.output import JsonFlag, print_table, printable, readable_errors, tell


class Task(StrEnum):
    """Whose pairs are made."""

    indirect_objects = "indirect-objects"
    greater_than = "greater-than"
    docstrings = "docstrings"


class Method(StrEnum):
    """How effects are circuit."""

    ig = "ig"
    atp = "atp"


@readable_errors
def feature_circuit(
    saes: Annotated[
        list[str], typer.Argument(help="Ids or names of SAEs of one host model, each of one site.")
    ],
    pairs: Annotated[
        Path | None,
        typer.Option(help="JSONL of pairs: clean, patch, answer, wrong. Left out: of --task."),
    ] = None,
    task: Annotated[
        Task | None, typer.Option(help="Whose pairs are made. Left out: indirect-objects.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=4, help="Pairs that are made.")] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(help="Of indirect objects, such as went; may be given again."),
    ] = None,
    aligned: Annotated[
        bool, typer.Option("--aligned", help="A node for each token, not one for all of them.")
    ] = False,
    method: Annotated[
        Method, typer.Option(help="Integrated gradients, or attribution patching.")
    ] = Method.ig,
    midpoints: Annotated[int | None, typer.Option(min=1, max=1000, help="Of ig.")] = None,
    nodes: Annotated[
        int | None, typer.Option(min=0, max=5000, help="Most features that are kept.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of halves, random features, intervals.")] = 0,
    name: Annotated[str | None, typer.Option(help="Of its graph.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Find which features carry a difference between prompts, and check it on others.

    Its graph is listed and shown by `monosemy graph`.

    Example: monosemy feature-circuit early late --template went --aligned
    """
    if pairs is not None:
        for option, chosen in (("--task", task), ("--count", count), ("--template", template)):
            if chosen:
                raise typer.BadParameter(
                    "it is of pairs that are made, not --pairs", param_hint=option
                )
        items = [each.model_dump(mode="json") for each in read_pairs(pairs)]
        source: dict[str, Any] = {"task": "given", "items": items}
    else:
        source = {"task": (task or Task.indirect_objects).value, "seed": seed}
        source |= {} if count is None else {"count": count}
        source |= {"templates": template} if template else {}
    spec: dict[str, Any] = {
        "kind": "feature_circuit",
        "saes": saes,
        "pairs": source,
        "method": method.value,
        "positions": "aligned" if aligned else "summed",
        "seed": seed,
    }
    given = {"midpoints": midpoints, "nodes": nodes, "name": name}
    spec |= {key: value for key, value in given.items() if value is not None}
    run_and_show(spec, "/graphs/{run}", show_feature_circuit, as_json)


def show_feature_circuit(graph: dict[str, Any]) -> None:
    """What REST says of its graph, as tables."""
    circuit = graph["feature_circuit"]
    tell(f"{graph['name']}: {circuit['pairs']} pairs such as {printable(graph['prompt'])}")
    tell(
        f"{graph['model']}; metric {_with_interval(circuit['clean'])} on clean prompts,"
        f" {_with_interval(circuit['patch'])} on patches"
    )
    sites = [
        (
            each["site"],
            each["sae"],
            f"{each['kept']} of {each['active']}",
            f"{each['kept_share']:.1%}",
            f"{each['features']:+.3f}",
            f"{each['error']:+.3f}",
            f"{each['cut']:+.3f}",
            f"{each['residual']:+.3f}",
        )
        for each in circuit["sites"]
    ]
    columns = ("site", "SAE", "features kept", "of effects", "features", "error", "cut", "missed")
    print_table(columns, sites, title="effects, clean less patch")
    tokens = circuit["tokens"]
    if tokens is not None:
        tell(
            f"The prompt's tokens carry {tokens['effect']:+.3f} of {tokens['cut']:+.3f},"
            f" {tokens['residual']:+.3f} missed."
        )
    tell(
        f"{graph['nodes']} nodes and {circuit['edges']} edges are kept,"
        f" {circuit['edge_share']:.1%} of all between these nodes;"
        f" inputs miss {circuit['unexplained']:.1%} of effects."
    )
    exact = circuit["exact"]
    if exact is not None:
        tell(
            f"{exact['n']} features patched one at a time: correlation"
            f" {_with_interval(exact['correlation'])}, of attribution patching"
            f" {_with_interval(exact['attribution_patching'])}"
        )
    check = circuit["check"]
    curve = [
        (
            str(each["nodes"]),
            _with_interval(each["with_errors"]),
            _with_interval(each["random_with_errors"]),
            _with_interval(each["without_errors"]),
            _with_interval(each["random_without_errors"]),
            _with_interval(each["neurons"]),
            _with_interval(each["complement"]),
        )
        for each in check["curve"]
    ]
    names = ("features", "faithful", "random", "no errors", "random", "neurons", "without them")
    title = f"faithfulness on {check['pairs']} pairs left out, 95 % intervals"
    print_table(names, curve, title=title)


def _with_interval(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return "-"
    return f"{figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"
