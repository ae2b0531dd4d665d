"""``monosemy export``: features and activations as files for pandas, polars, DuckDB and others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from monosemy.exit_codes import USAGE
from service.cli.client import segment
from service.cli.connect import connect
from service.cli.output import JsonFlag, fail, print_json, readable_errors, say
from service.cli.saes import SaeArgument

app = typer.Typer(no_args_is_help=True, help="Export features and activations as parquet or Arrow.")

_FORMS = {".parquet": "parquet", ".arrow": "arrow", ".arrows": "arrow"}

Destination = Annotated[
    Path, typer.Argument(help="File to write: .parquet, or .arrow for a stream of record batches.")
]


@app.command("features")
@readable_errors
def features(
    sae: SaeArgument,
    destination: Destination,
    scorer: Annotated[
        str | None, typer.Option(help="Whose scores choose the best explanation.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write all features of an SAE, with best explanations and their scores, to a file.

    Example: monosemy export features demo features.parquet
    """
    _download(sae, "features", destination, as_json, scorer=scorer)


@app.command("activations")
@readable_errors
def activations(
    sae: SaeArgument,
    destination: Destination,
    feature: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Only this feature; repeat it for several.  All if left out."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the tokens on which features fire, and how strongly, to a file.

    Example: monosemy export activations demo activations.parquet --feature 42
    """
    _download(sae, "activations", destination, as_json, features=feature or None)


def _download(sae: str, what: str, destination: Path, as_json: bool, **parameters: Any) -> None:
    form = _FORMS.get(destination.suffix.lower())
    if form is None:
        fail(f"{destination}: end the name in .parquet or .arrow.", USAGE)
    if destination.exists():
        fail(f"{destination} is there already.")
    client = connect()
    about = client.get(f"/saes/{segment(sae)}")
    if not about["features"]["indexed"]:
        fail(f"'{about['name']}' has no index, so nothing to export. Submit an index run.")
    path = f"/saes/{segment(sae)}/{what}.{form}"
    size = client.download(path, destination, **parameters)
    if as_json:
        print_json({"file": str(destination), "bytes": size})
    else:
        say(f"{destination}: {size:,} bytes.")
