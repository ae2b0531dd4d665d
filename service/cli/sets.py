"""``monosemy set``: SAEs of one host model in several layers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from monosemy.figures import plural, ranges
from service.cli.client import segment
from service.cli.connect import connect
from service.cli.exported import NO_TOPK, READ_BY, Form, export_saes
from service.cli.following import run_and_show
from service.cli.output import JsonFlag, number, print_json, print_table, readable_errors, say

app = typer.Typer(no_args_is_help=True, help="Make, show and measure sets: SAEs in several layers.")


@app.command("list")
@readable_errors
def list_(
    model: Annotated[str | None, typer.Option(help="Only those of this host model.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List sets, newest first.

    Example: monosemy set list
    """
    table = connect().get("/sets", model=model)
    if as_json:
        print_json(table)
        return
    print_table(
        ("name", "model", "reads", "writes", "layers", "architecture", "latents"),
        [
            (
                each["name"],
                each["model"]["name"],
                each["reads"],
                each["writes"],
                ranges(each["layers"]) + ("" if each["complete"] else " (not all)"),
                each["architecture"],
                str(each["d_sae"]),
            )
            for each in table["items"]
        ],
    )


@app.command()
@readable_errors
def show(
    name: Annotated[str, typer.Argument(metavar="SET", help="Name of the set.")],
    as_json: JsonFlag = False,
) -> None:
    """Show the SAEs of a set, by layer.

    Example: monosemy set show tc
    """
    shown = connect().get(f"/sets/{segment(name)}")
    if as_json:
        print_json(shown)
        return
    say(f"{shown['name']}: {shown['reads']} -> {shown['writes']} of {shown['model']['name']}")
    rows = []
    for sae in shown["saes"]:
        metrics = sae["metrics"].get("evaluation") or sae["metrics"]
        rows.append(
            (
                sae["name"],
                sae["site"],
                number(metrics.get("fvu"), ".4f"),
                number(metrics.get("l0"), ".1f"),
                number(metrics.get("dead_share"), ".1%"),
            )
        )
    print_table(("SAE", "site", "FVU", "L0", "dead"), rows)
    measured = shown["evaluation"]
    if measured is not None:
        say(f"Measured together by run {measured['run_id']}, {measured['finished_at'][:19]}:")
        _print_metrics(measured["metrics"])


@app.command()
@readable_errors
def new(
    name: Annotated[str, typer.Argument(metavar="SET", help="Unique name.")],
    saes: Annotated[list[str], typer.Argument(metavar="SAE...", help="Ids or names of SAEs.")],
    as_json: JsonFlag = False,
) -> None:
    """Put SAEs of one host model together as a set.

    Example: monosemy set new tc layer-0 layer-1
    """
    made = connect().post("/sets", {"name": name, "saes": saes})
    if as_json:
        print_json(made)
    else:
        say(f"{made['name']}: {plural(len(made['saes']), 'SAE')}, layers {ranges(made['layers'])}")


@app.command()
@readable_errors
def delete(
    name: Annotated[str, typer.Argument(metavar="SET", help="Name of the set.")],
) -> None:
    """Delete a set; its SAEs stay.

    Example: monosemy set delete tc
    """
    connect().delete(f"/sets/{segment(name)}")
    say(f"{name}: deleted; its SAEs stay.")


@app.command()
@readable_errors
def evaluate(
    name: Annotated[str, typer.Argument(metavar="SET", help="Name of the set.")],
    tokens: Annotated[
        int, typer.Option(min=1, help="Held-out tokens for the loss of the spliced host model.")
    ] = 4096,
    as_json: JsonFlag = False,
) -> None:
    """Measure a set: each SAE by itself, alone in place, and all in place at once.

    Example: monosemy set evaluate tc
    """
    shown = connect().get(f"/sets/{segment(name)}")
    spec = {
        "kind": "evaluate_set",
        "saes": [sae["id"] for sae in shown["saes"]],
        "evaluation": {"tokens": tokens},
    }
    run_and_show(spec, "/runs/{run}", _print_evaluation, as_json)


@app.command()
@readable_errors
def export(
    name: Annotated[str, typer.Argument(metavar="SET", help="Name of the set.")],
    destination: Annotated[Path, typer.Argument(help="Folder to make.")],
    as_json: JsonFlag = False,
) -> None:
    """Copy a set of transcoders out of the artifacts of this machine, as circuit-tracer reads it.

    Example: monosemy set export tc ./tc
    """
    client = connect()
    shown = client.get(f"/sets/{segment(name)}")
    paths = [client.get(f"/saes/{sae['id']}")["path"] for sae in shown["saes"]]
    export_saes(paths, destination, Form.circuit_tracer)
    if as_json:
        print_json({"name": shown["name"], "folder": str(destination)})
    else:
        topk = any(sae["architecture"] == "topk" for sae in shown["saes"])
        say((NO_TOPK if topk else READ_BY[Form.circuit_tracer]).format(destination))


def _print_evaluation(run: dict[str, Any]) -> None:
    _print_metrics(run["result"]["metrics"])


def _print_metrics(metrics: dict[str, Any]) -> None:
    rows = [
        (
            each["site"],
            number(each["fvu"], ".4f"),
            number(each["l0"], ".1f"),
            number(each["dead_share"], ".1%"),
            *_increase(each.get("alone")),
        )
        for each in metrics["members"]
    ]
    print_table(("site", "FVU", "L0", "dead", "CE increase", "95 %"), rows)
    if "all" not in metrics:
        return
    names = ("all", "mean_ablation")
    titles = ("in place at once", "CE increase", "95 %", "KL", "same top token")
    print_table(
        titles,
        [
            (
                name.replace("_", " "),
                *_increase(metrics[name]),
                number(metrics[name]["kl"], ".4f"),
                number(metrics[name]["top1_agreement"], ".1%"),
            )
            for name in names
        ],
    )
    say(
        f"{plural(metrics['splice_tokens'], 'token')} in"
        f" {plural(metrics['splice_rows'], 'row')}; the clean model's CE "
        f"is {metrics['ce_clean']:.4f} nats."
    )


def _increase(part: dict[str, Any] | None) -> tuple[str, str]:
    """The increase of the loss, and its interval."""
    if part is None:
        return "", ""
    span = f"{number(part['low'], '.4f')} to {number(part['high'], '.4f')}"
    return number(part["ce_increase"], ".4f"), "" if part["low"] is None else span
