"""``monosemy feature export`` and ``feature embed``: a feature to be kept, sent on or shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from monosemy.specs.rest.features import FeatureSort
from service.cli.client import segment
from service.cli.connect import connect
from service.cli.output import JsonFlag, fail, moment, print_json, readable_errors, say, tell
from service.cli.saes import SaeArgument
from service.settings import get_settings

Feature = Annotated[int, typer.Argument(min=0, help="Index of the feature.")]


@readable_errors
def export(
    sae: SaeArgument,
    destination: Annotated[Path, typer.Argument(help="File of HTML to write.")],
    index: Annotated[
        int | None,
        typer.Option("--feature", min=0, help="This feature alone, with all that its page shows."),
    ] = None,
    sort: Annotated[FeatureSort, typer.Option(help="Order by.")] = "index",
    order: Annotated[Literal["asc", "desc"], typer.Option(help="Direction.")] = "asc",
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a feature, or the first 500 of an SAE in short, as one page that opens anywhere.

    Example: monosemy feature export demo 42.html --feature 42
    """
    if index is not None:
        save_page(f"/saes/{segment(sae)}/features/{index}/page", destination, as_json)
    else:
        path = f"/saes/{segment(sae)}/page"
        save_page(path, destination, as_json, sort=sort, order=order, tag=tag)


def save_page(path: str, destination: Path, as_json: bool, **asked: Any) -> None:
    """What REST has at ``path`` as a new file, and its size for whoever reads along."""
    if destination.exists():
        fail(f"{destination} is there already.")
    size = connect().download(path, destination, **asked)
    if as_json:
        print_json({"file": str(destination), "bytes": size})
    else:
        say(f"{destination}: {size:,} bytes.")


@readable_errors
def embed(
    sae: SaeArgument,
    index: Feature,
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="What is shown: explanation, histogram, tokens, writes, examples; repeat it."
        ),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, max=20, help="How many examples.")] = 5,
    theme: Annotated[
        Literal["light", "dark"] | None, typer.Option(help="As the reader's system, if left out.")
    ] = None,
    hours: Annotated[float, typer.Option(help="How long the address serves.")] = 24.0 * 30,
    as_json: JsonFlag = False,
) -> None:
    """Make an address at which another page can show a feature in a frame.

    Example: monosemy feature embed demo 42 --part explanation --part examples
    """
    body = {"n": examples, "theme": theme, "hours": hours, **({"parts": part} if part else {})}
    made = connect().post(f"/saes/{segment(sae)}/features/{index}/embed", body)
    address = get_settings().url + made["path"]
    if as_json:
        print_json({**made, "address": address})
        return
    tell(address)
    if made["expires_at"]:
        say(f"It serves until {moment(made['expires_at'])}, or until its key is revoked.")
