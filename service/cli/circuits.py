"""``monosemy circuit``: heads of a host model that tell prompts of a task from others."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from monosemy.data.tasks.own_prompts import read_prompts
from monosemy.figures import plural
from service.cli.client import segment
from service.cli.connect import connect
from service.cli.following import run_and_show
from service.cli.output import (
    JsonFlag,
    out,
    print_json,
    print_table,
    readable_errors,
    tell,
)

app = typer.Typer(
    no_args_is_help=True, help="Find attention heads that do a task, and look at them."
)
CircuitArgument = Annotated[
    str,
    typer.Argument(help="Id or name of the circuit, or 'latest'; of several of a name the newest."),
]


class Task(StrEnum):
    """Prompts that are made for the model's tokenizer."""

    indirect_objects = "indirect-objects"
    greater_than = "greater-than"
    docstrings = "docstrings"


class EdgeChoice(StrEnum):
    """Which pairs of heads are scored."""

    auto = "auto"
    all = "all"
    significant = "significant"
    none = "none"


class Known(StrEnum):
    """Published lists of heads."""

    gpt2_ioi = "gpt2-ioi"
    gpt2_greater_than = "gpt2-greater-than"
    docstring = "attn-only-4l-docstring"


@app.command()
@readable_errors
def find(
    task: Annotated[Task, typer.Option(help="Prompts to make.")] = Task.indirect_objects,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help='Your own instead: JSONL of {"text", "positive", and for the causal check "right"'
            ' and "wrong"}.'
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Host model.")] = None,
    count: Annotated[int, typer.Option(min=4, max=5000, help="Prompts of each label.")] = 250,
    permutations: Annotated[
        int, typer.Option(min=20, max=10000, help="Times that labels are shuffled.")
    ] = 200,
    edges: Annotated[EdgeChoice, typer.Option(help="Pairs of heads to score.")] = EdgeChoice.auto,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="SAEs that scores are means of.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the first of them, and of the prompts.")] = 0,
    causal: Annotated[
        bool, typer.Option("--causal/--no-causal", help="Check the heads by ablation.")
    ] = True,
    known: Annotated[
        Known | None, typer.Option(help="A published circuit to compare with.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the circuit.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Find the heads whose outputs tell prompts with a task from prompts without it.

    Example: monosemy circuit find --task greater-than --count 100
    """
    source: dict[str, Any] = {"task": task.value, "count": count, "seed": seed}
    if prompts is not None:
        items = [each.model_dump(exclude_defaults=True) for each in read_prompts(prompts)]
        source = {"task": "given", "items": items}
    spec: dict[str, Any] = {
        "kind": "circuit",
        "prompts": source,
        "codes": {"seeds": seeds, "seed": seed},
        "permutations": permutations,
        "edges": edges.value,
    }
    spec |= {} if causal else {"causal": None}
    spec |= {} if known is None else {"known": known.value}
    spec |= {} if model is None else {"model": {"name": model}}
    spec |= {} if name is None else {"name": name}
    run_and_show(spec, "/circuits/{run}", lambda circuit: _show(circuit, 10), as_json)


@app.command("list")
@readable_errors
def list_(
    model: Annotated[str | None, typer.Option(help="Only those of this host model.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List circuits, newest first.

    Example: monosemy circuit list
    """
    page = connect().get("/circuits", model=model)
    if as_json:
        print_json(page)
        return
    rows = [
        (
            each["id"],
            each["name"],
            each["model"],
            f"{each['positive']} + {each['negative']}",
            f"{each['found']} of {len(each['layers']) * each['heads_per_layer']}",
            f"{each['highest_z']:.1f}",
        )
        for each in page["items"]
    ]
    print_table(("id", "name", "model", "prompts", "heads found", "highest z"), rows)


@app.command()
@readable_errors
def show(
    circuit: CircuitArgument,
    limit: Annotated[int, typer.Option(min=0, max=1000, help="Heads and edges shown.")] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Show a circuit: heads, edges, how much seeds agree, and the check by ablation.

    Example: monosemy circuit show latest
    """
    found = connect().get(f"/circuits/{segment(circuit)}")
    if as_json:
        print_json(found)
        return
    _show(found, limit)


@app.command()
@readable_errors
def delete(circuit: CircuitArgument) -> None:
    """Delete a circuit; its run stays.

    Example: monosemy circuit delete 6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11
    """
    connect().delete(f"/circuits/{segment(circuit)}")
    tell(f"Deleted the circuit {circuit}.")


def _show(found: dict[str, Any], limit: int) -> None:
    heads = found["heads"]
    tell(
        f"{found['name']}: {found['found']} of {plural(len(heads), 'head')} of {found['model']}"
        " tell"
        f" {found['positive']} positive from {found['negative']} negative prompts, at a false"
        f" discovery rate of {found['false_discovery']:.0%}"
        f" ({plural(found['permutations'], 'permutation')}, {plural(found['seeds'], 'seed')})."
    )
    for kind, words in found["left_out"].items():
        if words:
            tell(f"Left out {len(words)} {kind} that are no single tokens: {', '.join(words)}")
    ranked = sorted(heads, key=lambda each: -each["z"])[:limit]
    rows = [
        (
            f"{each['layer']}.{each['head']}",
            f"{each['z']:.2f}",
            f"{each['q']:.2g}",
            "found" if each["found"] else "",
            f"{each['score']:.1f}",
            f"{each['null_mean']:.1f}",
            {True: "known", False: "", None: ""}[each["known"]],
        )
        for each in ranked
    ]
    print_table(("head", "z", "q", "", "unique codes", "by shuffled labels", ""), rows)
    _show_edges(found, limit)
    agree = found["stability"]
    if agree["jaccard"] is not None:
        tell(
            f"Between {plural(agree['seeds'], 'seed')}: rank correlation"
            f" {_interval(agree['rank_correlation'])}, overlap of the {agree['top']} highest"
            f" {_interval(agree['jaccard'])} ({agree['jaccard_by_chance']:.2f} by chance)."
        )
    _show_known(found["known"])
    _show_causal(found["causal"], found["no_causal"])


def _show_edges(found: dict[str, Any], limit: int) -> None:
    edges = found["edges"]
    if edges is None:
        return
    among = (
        "all heads" if edges["among"] == "all" else f"the {plural(edges['heads'], 'found head')}"
    )
    tell(f"{edges['found']} of {plural(edges['pairs'], 'edge')} among {among} are found.")
    rows = [
        (
            "{}.{} to {}.{}".format(*each["source"], *each["target"]),
            f"{each['z']:.2f}",
            f"{each['q']:.2g}",
        )
        for each in found["edge_list"][:limit]
    ]
    if rows:
        print_table(("edge", "z", "q"), rows)


def _show_known(known: dict[str, Any] | None) -> None:
    if known is None:
        return
    tell(
        f"Against {known['name']} ({known['members']} of {plural(known['heads'], 'head')}): ROC"
        " AUC of z"
        f" {_interval(known['auc'])} (raw score {_interval(known['auc_raw'])}), average precision"
        f" {_interval(known['average_precision'])}, F1 of the found heads {known['f1']:.2f}."
    )


def _show_causal(check: dict[str, Any] | None, why_not: str | None) -> None:
    if check is None:
        tell(f"No check by ablation: {why_not}.")
        return
    held = "fresh" if check["held_out"] else "the same"
    title = (
        f"logit difference over {check['prompts']} {held} prompts, 95 % intervals; with all heads"
        f" {_interval(check['clean'])}, with none {_interval(check['none'])}"
    )
    rows = [
        (
            kept["heads"],
            _interval(kept["top"]),
            _interval(kept["random"]),
            _interval(removed["top"]),
            _interval(removed["random"]),
        )
        for kept, removed in zip(check["kept"], check["removed"], strict=True)
    ]
    columns = ("heads", "kept: top", "kept: random", "removed: top", "removed: random")
    print_table(columns, rows, title=title)
    out.print(f"Means for ablated heads: {check['reference']}.", highlight=False)


def _interval(figure: dict[str, Any]) -> str:
    """Of what may be below 0."""
    return f"{figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"
