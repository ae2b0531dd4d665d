"""``monosemy tag``: short words that features carry, over REST."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.client import segment
from service.cli.connect import connect
from service.cli.output import JsonFlag, print_json, print_table, readable_errors, say
from service.cli.saes import SaeArgument

app = typer.Typer(no_args_is_help=True, help="Tag features with short words.")

FeatureArgument = Annotated[int, typer.Argument(min=0, help="Index of the feature.")]


@app.command("list")
@readable_errors
def list_(
    sae: Annotated[str | None, typer.Option(help="Only of this SAE's features.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Only tags that begin with this.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 200,
    as_json: JsonFlag = False,
) -> None:
    """List the tags in use, with how many features carry each.

    Example: monosemy tag list --sae demo
    """
    page = connect().get("/tags", sae=sae, prefix=prefix, limit=limit)
    if as_json:
        print_json(page)
        return
    rows = [
        (each["tag"], each["features"], ", ".join(of["sae"] for of in each["saes"]))
        for each in page["items"]
    ]
    print_table(("tag", "features", "SAEs"), rows)
    if page["next_cursor"]:
        say("There are more; narrow them down with --prefix.")


@app.command()
@readable_errors
def show(sae: SaeArgument, feature: FeatureArgument, as_json: JsonFlag = False) -> None:
    """Show the tags of a feature.

    Example: monosemy tag show demo 42
    """
    _told(connect().get(_path(sae, feature))["items"], as_json)


@app.command()
@readable_errors
def add(
    sae: SaeArgument,
    feature: FeatureArgument,
    tags: Annotated[list[str], typer.Argument(help="Tags to add.")],
    as_json: JsonFlag = False,
) -> None:
    """Tag a feature.

    Example: monosemy tag add demo 42 royalty people
    """
    _told(connect().post(_path(sae, feature), {"tags": tags})["items"], as_json)


@app.command()
@readable_errors
def remove(
    sae: SaeArgument,
    feature: FeatureArgument,
    tags: Annotated[list[str], typer.Argument(help="Tags to take away.")],
    as_json: JsonFlag = False,
) -> None:
    """Take tags from a feature.

    Example: monosemy tag remove demo 42 royalty
    """
    client = connect()
    for tag in tags:
        client.delete(f"{_path(sae, feature)}/{segment(tag)}")
    _told(client.get(_path(sae, feature))["items"], as_json)


def _path(sae: str, feature: int) -> str:
    return f"/saes/{segment(sae)}/features/{feature}/tags"


def _told(tags: list[str], as_json: bool) -> None:
    if as_json:
        print_json(tags)
        return
    typer.echo(" ".join(tags))
