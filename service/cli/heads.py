"""``monosemy heads`` and ``sae heads``: the attention heads behind an SAE, and their features."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from monosemy.figures import plural
from service.cli.client import segment
from service.cli.connect import connect
from service.cli.following import run_and_show
from service.cli.output import JsonFlag, print_json, print_table, readable_errors, tell
from service.cli.saes import SaeArgument
from service.cli.saes import app as saes

_SHOWN = 5
"""Features of a head that are named."""


@readable_errors
def heads(
    sae: SaeArgument,
    rows: Annotated[
        int, typer.Option(min=1, max=100_000, help="Most rows of text read for the families.")
    ] = 512,
    examples: Annotated[
        int, typer.Option(min=3, max=100, help="Firings of a feature that its family goes by.")
    ] = 10,
    top: Annotated[
        int, typer.Option(min=2, max=100, help="Features by which a head is judged.")
    ] = 10,
    seed: Annotated[int, typer.Option(help="Of random sets and random tokens.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Survey the attention heads behind an SAE at attn.hook_z, in place of the survey it had.

    Example: monosemy heads demo --rows 1000
    """
    options = {"rows": rows, "examples": examples, "top": top, "seed": seed}
    spec = {"kind": "attention", "sae": sae, **options}
    run_and_show(spec, f"/saes/{segment(sae)}/attention", _show, as_json)


@saes.command("heads")
@readable_errors
def show_heads(sae: SaeArgument, as_json: JsonFlag = False) -> None:
    """Show what a survey found of the attention heads behind an SAE.

    Example: monosemy sae heads demo
    """
    survey = connect().get(f"/saes/{segment(sae)}/attention")
    if as_json:
        print_json(survey)
        return
    _show(survey)


def _show(survey: dict[str, Any]) -> None:
    heads = survey["heads"]
    tell(
        f"{survey['sae']} at {survey['site']}: {plural(len(heads), 'head')},"
        f" {plural(survey['features'], 'feature')}"
        " "
        f"that fire; families by {plural(survey['examples'], 'firing')} in"
        f" {plural(survey['rows'], 'row')}."
    )
    columns = ("head", "features", "alike", "random", "p", "q", "previous", "duplicate")
    rows = [
        (
            each["head"],
            each["owned"],
            f"{each['cosine']:.2f}",
            f"{each['random']:.2f}",
            f"{each['p']:.3f}",
            f"{each['q']:.3f}",
            f"{each['previous']:.2f}",
            f"{each['duplicate']:.2f}",
            f"{each['induction']:.2f}",
            ", ".join(str(feature["index"]) for feature in each["features"][:_SHOWN]),
        )
        for each in heads
    ]
    print_table((*columns, "induction", "first features"), rows)
    tell(
        f"{survey['alike']} of {len(heads)} heads have features that are more alike than random "
        f"ones (q of at most 0.05, {plural(survey['draws'], 'random set')} a head)."
    )
    families = [(name, f"{count:,}") for name, count in survey["families"].items()]
    print_table(("family", "features"), families)
