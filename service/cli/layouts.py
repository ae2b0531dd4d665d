"""``monosemy layout`` and ``sae layout``: decoder rows in two dimensions, and how faithfully."""

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


@readable_errors
def layout(
    sae: SaeArgument,
    perplexity: Annotated[
        float, typer.Option(min=2, max=100, help="About how many neighbours a row is drawn to.")
    ] = 30.0,
    exaggeration: Annotated[
        float, typer.Option(min=1, max=12, help="Above 1: clusters further apart, less faithful.")
    ] = 1.0,
    iterations: Annotated[
        int, typer.Option(min=50, max=5000, help="Steps after the first 250.")
    ] = 500,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal layouts.")] = 0,
    silent: Annotated[
        bool, typer.Option("--silent", help="Also lay out features that never fire.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Lay the decoder rows of an SAE out in two dimensions, in place of the layout it had.

    Example: monosemy layout demo --perplexity 15
    """
    options = {"perplexity": perplexity, "exaggeration": exaggeration, "iterations": iterations}
    spec = {"kind": "layout", "sae": sae, **options, "seed": seed, "silent": silent}
    run_and_show(spec, f"/saes/{segment(sae)}/layout", _show, as_json)


@saes.command("layout")
@readable_errors
def show_layout(sae: SaeArgument, as_json: JsonFlag = False) -> None:
    """Show how faithful the layout of an SAE is, and how it was made.

    Example: monosemy sae layout demo
    """
    summary = connect().get(f"/saes/{segment(sae)}/layout")
    if as_json:
        print_json(summary)
        return
    _show(summary)


def _show(summary: dict[str, Any]) -> None:
    kept = summary["faithfulness"]
    left_out = f", {summary['left_out']:,} silent ones left out" if summary["left_out"] else ""
    tell(f"Layout of {summary['sae']} by t-SNE: {plural(summary['features'], 'feature')}{left_out}")
    rows = [
        (name, f"{kept[key]['value']:.1%}", f"{kept[key]['low']:.1%} to {kept[key]['high']:.1%}")
        for name, key in (("this layout", "layout"), ("two principal components", "pca"))
    ]
    rows.append(("chance", f"{kept['chance']:.1%}", ""))
    title = f"share of the {kept['neighbours']} nearest decoder rows that are among the nearest"
    print_table(("", "kept", "95 %"), rows, title=f"{title}, n = {kept['n']:,}")
    given = ", ".join(f"{name} {value}" for name, value in summary["parameters"].items())
    tell(
        f"Trustworthiness {kept['trustworthiness']:.3f}, continuity {kept['continuity']:.3f}"
        f" (by {plural(kept['sampled'], 'feature')}). {given}."
    )
