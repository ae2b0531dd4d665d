"""``monosemy graph steer``: features of a graph's prompt changed, and what comes next."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from monosemy.figures import plural
from service.cli.client import segment
from service.cli.connect import connect
from service.cli.graph_argument import GraphArgument
from service.cli.output import JsonFlag, print_json, print_table, printable, readable_errors, tell

_WITH_STRENGTH = ("scale", "clamp", "add")


class Held(StrEnum):
    """What stays as it was."""

    nothing = "nothing"
    mlps = "mlps"
    all = "all"


@readable_errors
def steer(
    graph: GraphArgument,
    ablate: Annotated[
        list[str] | None,
        typer.Option(help="WHICH: its activation becomes 0. This and the next are repeatable."),
    ] = None,
    scale: Annotated[
        list[str] | None, typer.Option(help="WHICH=FACTOR: it is multiplied by it.")
    ] = None,
    clamp: Annotated[
        list[str] | None, typer.Option(help="WHICH=ACTIVATION: it becomes that.")
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option(help="WHICH=ACTIVATION: that is added to it.")
    ] = None,
    held: Annotated[
        Held, typer.Option(help="What stays as it was: nothing, MLPs, or patterns and norms too.")
    ] = Held.nothing,
    top: Annotated[int, typer.Option(min=1, max=100, help="Likeliest tokens shown.")] = 10,
    features: Annotated[
        int, typer.Option(min=0, max=200, help="Other features shown, those that change most.")
    ] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Change features of a graph's prompt, and show logits before and after.

    WHICH is the number of a node, or SAE/LATENT for a feature wherever it fires; @TOKEN behind it
    takes that token (from 0), @firing and @every all of them.

    Example: monosemy graph steer texas --ablate 12 --scale 30=2 --clamp tc-5/117@4=3
    """
    edits = [_edit(each, "ablate") for each in ablate or ()]
    for mode, given in zip(_WITH_STRENGTH, (scale, clamp, add), strict=True):
        edits += [_edit(each, mode) for each in given or ()]
    if not edits:
        raise typer.BadParameter("name a feature", param_hint="--ablate")
    client, path = connect(), f"/graphs/{segment(graph)}"
    body = {"edits": edits, "held": held.value, "top": top, "features": features}
    answer = client.post(f"{path}/steer", body)
    if as_json:
        print_json(answer)
        return
    shown = client.get(path)
    _show(answer, shown["tokens"], shown["saes"])


def _edit(text: str, mode: str) -> dict[str, Any]:
    """``BadParameter`` for what is no edit of this mode."""
    which, strength = text, None
    if mode != "ablate":
        which, _, amount = text.rpartition("=")
        try:
            strength = float(amount)
        except ValueError:
            strength = None
        if not which or strength is None:
            form = "WHICH=FACTOR" if mode == "scale" else "WHICH=ACTIVATION"
            raise typer.BadParameter(f"'{text}' is no {form}", param_hint=f"--{mode}")
    feature, _, at = which.partition("@")
    position: int | str | None = int(at) if _is_number(at) else (at or None)
    sae, _, number = feature.rpartition("/")
    if not _is_number(number) or not (_is_number(at) or at in ("", "firing", "every")):
        raise typer.BadParameter(
            f"'{which}' is neither the number of a node nor SAE/LATENT, with @TOKEN, @firing or "
            "@every behind it",
            param_hint=f"--{mode}",
        )
    named = {"sae": sae, "latent": int(number)} if sae else {"node": int(number)}
    given = {"position": position, "strength": strength}
    return {**named, "mode": mode, **{k: v for k, v in given.items() if v is not None}}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10


def _show(answer: dict[str, Any], tokens: list[str], saes: list[str]) -> None:
    edited = [
        (*_feature(each, tokens, saes), f"{each['before']:.3f}", f"{each['after']:.3f}")
        for each in answer["edited"]
    ]
    title = f"changed: {plural(answer['edits'], 'activation')}"
    print_table(("feature", "token", "label", "before", "after"), edited, title=title)
    goals = [
        (
            printable(each["label"]),
            f"{each['before']:.3f}",
            f"{each['after']:.3f}",
            f"{each['after'] - each['before']:+.3f}",
            f"{each['predicted']:+.3f}",
            f"{each['direct']:+.3f}",
        )
        for each in answer["goals"]
    ]
    print_table(("explained", "before", "after", "change", "by the graph", "directly"), goals)
    next_tokens = [
        (
            printable(each["text"]),
            f"{each['logit_before']:.3f}",
            f"{each['logit_after']:.3f}",
            f"{each['probability_before']:.2%}",
            f"{each['probability_after']:.2%}",
        )
        for each in answer["tokens"]
    ]
    print_table(("next token", "logit", "after", "probability", "after"), next_tokens)
    tell(f"The probabilities differ by {answer['kl']:.4f} nats (Kullback-Leibler).")
    moved = [
        (
            *_feature(each, tokens, saes),
            f"{each['before']:.3f}",
            f"{each['after']:.3f}",
            "-" if each["predicted"] is None else f"{each['predicted']:+.3f}",
        )
        for each in answer["features"]
    ]
    if moved:
        columns = ("feature", "token", "label", "before", "after", "by the graph")
        print_table(columns, moved, title="others that change most")


def _feature(each: dict[str, Any], tokens: list[str], saes: list[str]) -> tuple[str, str, str]:
    place = f"{each['position']} {printable(tokens[each['position']])}"
    name = f"{printable(saes[each['coder']])}/{each['latent']}"
    node = "" if each["node"] is None else f" (node {each['node']})"
    return name + node, place, printable(each["label"] or "")
