"""``monosemy task`` and ``tasks``: SAEs at a task, beside a dictionary made of what is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from monosemy.circuits.supervised.prompts import read_task_prompts
from monosemy.figures import plural
from service.cli.client import segment
from service.cli.connect import connect
from service.cli.following import run_and_show
from service.cli.output import (
    JsonFlag,
    estimate,
    out,
    print_json,
    print_table,
    readable_errors,
    tell,
)

app = typer.Typer(no_args_is_help=True, help="Look at what SAEs are worth at tasks.")

TaskArgument = Annotated[str, typer.Argument(help="Id of the task (that of its run), or 'latest'.")]


@readable_errors
def task(
    saes: Annotated[
        list[str] | None, typer.Argument(help="Ids or names of SAEs of one host model.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="JSONL of prompts with attributes; left out: indirect objects."),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=20, max=20_000, help="Prompts, where they are made.")
    ] = None,
    names: Annotated[
        int | None, typer.Option(min=4, max=1000, help="Names that made prompts are made of.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Host model, where no SAE says which.")] = None,
    site: Annotated[
        list[str] | None, typer.Option(help="Site; may be given more than once.")
    ] = None,
    position: Annotated[
        list[str] | None, typer.Option(help="Named token; may be given more than once.")
    ] = None,
    features: Annotated[
        list[int] | None,
        typer.Option(min=1, max=1024, help="Features an edit may change; more than once."),
    ] = None,
    pairs: Annotated[
        int | None, typer.Option(min=2, help="Most counterfactuals of each attribute.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of halves, counterfactuals, intervals.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Try SAEs at a task, beside a dictionary made of its known attributes and baselines.

    Example: monosemy task demo --count 1000
    """
    source: dict[str, Any] = {"task": "indirect-objects"}
    if prompts is not None:
        items = [each.model_dump(mode="json") for each in read_task_prompts(prompts)]
        source = {"task": "given", "items": items}
    else:
        source |= _given(count=count, names=names, seed=seed)
    spec: dict[str, Any] = {"kind": "task", "saes": saes or [], "prompts": source, "seed": seed}
    spec |= _given(sites=site, positions=position, features=features, pairs=pairs)
    if model is not None:
        spec["model"] = {"name": model}
    run_and_show(spec, "/tasks/{run}", _show, as_json)


@app.command("list")
@readable_errors
def list_(
    sae: Annotated[str | None, typer.Option(help="Only those with this SAE.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List tasks, newest first.

    Example: monosemy tasks list --sae demo
    """
    page = connect().get("/tasks", sae=sae)
    if as_json:
        print_json(page)
        return
    rows = [
        (
            each["id"],
            each["task"],
            ", ".join(each["sites"]),
            each["test"],
            method["name"],
            estimate(method["sufficiency"]),
            estimate(method["edits"]),
        )
        for each in page["items"]
        for method in each["methods"]
        if method["kind"] in ("supervised", "sae")
    ]
    print_table(("id", "task", "sites", "n", "dictionary", "keeps", "edits"), rows)


@app.command()
@readable_errors
def show(task: TaskArgument, as_json: JsonFlag = False) -> None:
    """Show the three tests of every dictionary at a task.

    Example: monosemy tasks show latest
    """
    found = connect().get(f"/tasks/{segment(task)}")
    if as_json:
        print_json(found)
        return
    _show(found)


@app.command()
@readable_errors
def delete(task: TaskArgument) -> None:
    """Delete what a task run found; the run and the SAEs stay.

    Example: monosemy tasks delete 6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11
    """
    connect().delete(f"/tasks/{segment(task)}")
    tell(f"Deleted the task {task}.")


def _given(**options: Any) -> dict[str, Any]:
    """Those that somebody gave; an option that may come more than once is [] where none is."""
    return {name: value for name, value in options.items() if value not in (None, [])}


def _show(found: dict[str, Any]) -> None:
    clean = found["clean"]
    tell(
        f"{found['task']} on {found['model']} at {', '.join(found['positions'])}:"
        f" {plural(found['fit'], 'prompt')} to fit to, {found['test']:,} to test on."
        f" Answer preferred in {found['preferred']['value']:.1%}, logit difference"
        f" {clean['value']:.2f} ({clean['low']:.2f} to {clean['high']:.2f})."
    )
    for section in found["sections"]:
        _show_section(section)
    _show_interpretations(found["interpretations"])


def _show_section(section: dict[str, Any]) -> None:
    rows = [
        (
            method["name"],
            f"{method['l0']:.1f}",
            f"{method['approximation']['r2']:.3f}",
            estimate(method["approximation"]["sufficiency"]),
            estimate(method["approximation"]["necessity"]),
        )
        for method in section["methods"]
    ]
    title = f"{', '.join(section['sites'])}: what reconstructions keep"
    print_table(("dictionary", "L0", "R2", "sufficiency", "necessity"), rows, title=title)
    for floor in section["floors"]:
        name, pairs = floor["attribute"], floor["pairs"]
        edits = _edit_rows(section, floor, "accuracy", ("untouched", "random"))
        _print_edits(edits, f"edits of {name} ({plural(pairs, 'counterfactual')})")
        for key, what in _OTHER_ACCURACIES:
            random = floor.get(f"random_{key}")
            if random is not None and random["n"]:
                edits = _edit_rows(section, floor, f"accuracy_{key}", (None, f"random_{key}"))
                _print_edits(edits, f"edits of {name}, the {random['n']} {what}")


_OTHER_ACCURACIES = (
    ("changing", "whose true activations change the answer"),
    ("answers", "whose true activations change which of the task's answers is likeliest, by these"),
)


def _print_edits(edits: tuple[list[str], list[tuple[str, ...]]], title: str) -> None:
    heads, rows = edits
    print_table(("dictionary", *heads), rows, title=title)


def _edit_rows(
    section: dict[str, Any],
    floor: dict[str, Any],
    figure: str,
    floors: tuple[str | None, str],
) -> tuple[list[str], list[tuple[str, ...]]]:
    """(heads, a row for each dictionary, for no edit and for a random move) of one attribute."""
    own = [
        (method, each)
        for method in section["methods"]
        for each in method["control"]
        if each["attribute"] == floor["attribute"]
    ]
    counts = sorted({each["features"] for m, each in own if m["kind"] != "supervised"})
    blank = [""] * (len(counts) - 1)
    rows = []
    for method in section["methods"]:
        by_count = {each["features"]: each[figure] for m, each in own if m is method}
        if method["kind"] == "supervised":
            (only,) = by_count.values()
            rows.append((method["name"], estimate(only), *blank))
        else:
            rows.append((method["name"], *[estimate(by_count.get(k)) for k in counts]))
    untouched, random = floors
    rows.append(("no edit", "0" if untouched is None else estimate(floor[untouched]), *blank))
    rows.append(("a random move", estimate(floor[random]), *blank))
    return [f"{plural(k, 'feature')}" for k in counts] or ["accuracy"], rows


def _show_interpretations(items: list[dict[str, Any]]) -> None:
    rows = [
        (
            each["method"],
            each["site"],
            each["position"],
            each["attribute"],
            each["verdict"] + (f" by {each['by']}" if each["by"] else ""),
            estimate(each["single"]),
            estimate(each["union"]),
            f"{each['null']:.2f}",
            estimate(each["supervised"]),
        )
        for each in items
    ]
    heads = (
        "dictionary",
        "site",
        "token",
        "attribute",
        "",
        "best F1",
        "unions",
        "shuffled",
        "known",
    )
    print_table(heads, rows, title="features that stand for attributes")
    out.print("known: F1 with which the supervised dictionary's codes tell the values.")
