"""``monosemy basis`` and ``bases``: neurons and other bases beside an SAE."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from monosemy.exit_codes import USAGE
from monosemy.specs import apply_overrides, parse_spec
from monosemy.specs.rest.reports import MOST_BESIDE
from service.cli.client import Client, segment
from service.cli.connect import connect
from service.cli.following import follow, submitted
from service.cli.output import JsonFlag, fail, print_json, readable_errors, say, tell
from service.cli.saes import SaeArgument

_NAMES = ("neurons", "pca", "random_directions")


@readable_errors
def basis(
    kind: Annotated[
        Literal["neurons", "pca", "random_directions"],
        typer.Argument(help="neurons (coordinates of the site), pca or random_directions."),
    ],
    beside: Annotated[
        str | None,
        typer.Option(help="SAE that it is to stand beside: its model, text, site and sparsity."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the basis.")] = None,
    selection: Annotated[
        Literal["threshold", "top_k", "all"],
        typer.Option(help="One threshold for all, the largest of each token, or all positive."),
    ] = "threshold",
    l0: Annotated[
        float | None, typer.Option(min=1, help="Active latents per token; default: the SAE's.")
    ] = None,
    directions: Annotated[
        int | None, typer.Option(min=1, help="How many components or random directions.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Other fields, such as site=...; repeatable."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a basis that needs no training, to be indexed, explained and scored as an SAE.

    Example: monosemy basis neurons --beside demo
    """
    chosen = {"beside": beside, "name": name, "l0": l0, "directions": directions}
    spec: dict[str, Any] = {"kind": "basis", "basis": kind, "selection": selection}
    spec |= {name: value for name, value in chosen.items() if value is not None}
    spec = apply_overrides(spec, overrides or [])
    parse_spec(spec)
    client = connect()
    follow(client, submitted(client, spec)["id"], as_json)


@readable_errors
def bases(
    sae: SaeArgument,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--basis",
            help="neurons, pca or random_directions; repeatable. Default: neurons and "
            "random_directions.",
        ),
    ] = None,
    to: Annotated[Path, typer.Option(help="File for the page.")] = Path("bases.html"),
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Fields of the pipelines, such as explanation.features.count=50; repeatable.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make bases beside an SAE, index, explain and score them, and draw all their scores.

    The SAE itself must be explained and scored before, on the same terms. Example:
    monosemy bases demo --set explanation.features.count=50
    """
    chosen = list(dict.fromkeys(kinds or ("neurons", "random_directions")))
    unknown = [each for each in chosen if each not in _NAMES]
    if unknown or len(chosen) > MOST_BESIDE:
        fail(f"--basis takes {', '.join(_NAMES)}, at most {MOST_BESIDE} of them.", USAGE)
    specs = [
        apply_overrides({"kind": "basis_pipeline", "basis": each, "beside": sae}, overrides or [])
        for each in chosen
    ]
    for spec in specs:
        parse_spec(spec)
    client = connect()
    client.get(f"/saes/{segment(sae)}")  # one that is not there is told before work begins
    runs = [submitted(client, spec)["id"] for spec in specs]
    for run in runs:
        say(f"run {run}")
        follow(client, run, as_json)
    made = [client.get(f"/runs/{run}") for run in runs]
    names = [_made_by(each) for each in made]
    show_beside(client, sae, names, to, as_json)


def show_beside(client: Client, sae: str, others: list[str], to: Path, as_json: bool) -> None:
    """Writes the page of SAEs beside each other, and says how they differ."""
    path = f"/saes/{segment(sae)}/report/beside"
    report = client.get(path, other=others)
    if as_json:
        print_json(report)
        return
    to.write_text(client.text(f"{path}/page", other=others), encoding="utf-8")
    for scorer, section in report["scorers"].items():
        for each in section["differences"]:
            tell(f"{scorer}: {each['says']}")
    say(f"Written to {to}")


def _made_by(run: dict[str, Any]) -> str:
    (made,) = [each for each in run["children"] if each["kind"] == "basis"]
    return str(made["result"]["sae_id"])
