"""``monosemy list``: gather features in lists, put them in order, export them, over REST."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from monosemy.exit_codes import USAGE
from monosemy.figures import plural
from service.cli.client import segment
from service.cli.connect import connect
from service.cli.feature_files import save_page
from service.cli.output import (
    JsonFlag,
    fail,
    number,
    print_json,
    print_table,
    printable,
    readable_errors,
    say,
)
from service.cli.saes import SaeArgument

app = typer.Typer(no_args_is_help=True, help="Collect features in ordered lists.")

ListArgument = Annotated[str, typer.Argument(metavar="LIST", help="Id or name of the list.")]
Features = Annotated[list[int], typer.Argument(min=0, help="Indices of the features.")]

_AT_ONCE = 1000


class Form(StrEnum):
    """Formats of an exported list."""

    csv = "csv"
    jsonl = "jsonl"


@app.command("all")
@readable_errors
def all_(
    sae: Annotated[str | None, typer.Option(help="Only with features of this SAE.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List the lists, newest first.

    Example: monosemy list all --sae demo
    """
    page = connect().get("/lists", sae=sae, limit=limit)
    if as_json:
        print_json(page)
        return
    rows = [
        (each["name"], each["size"], each["owner"], each["changed_at"][:19], each["description"])
        for each in page["items"]
    ]
    print_table(("list", "features", "owner", "changed", "about"), rows)
    if page["next_cursor"]:
        say("There are more; raise --limit or narrow the list down.")


@app.command()
@readable_errors
def new(
    name: Annotated[str, typer.Argument(help="Unique name.")],
    description: Annotated[str, typer.Option(help="What the list is about.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Create a list.

    Example: monosemy list new kings --description "who rules"
    """
    summary = connect().post("/lists", {"name": name, "description": description})
    if as_json:
        print_json(summary)
        return
    say(f"{summary['name']}: begun ({summary['id']})")


@app.command()
@readable_errors
def show(
    name: ListArgument,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many entries.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Show a list with its first entries.

    Example: monosemy list show kings
    """
    detail = connect().get(f"/lists/{segment(name)}", limit=limit)
    if as_json:
        print_json(detail)
        return
    rows = [
        (
            each["sae"],
            each["feature"],
            each["heading"] or "",
            number(each["density"], ".5f"),
            number(each["max_activation"], ".2f"),
            each["note"],
        )
        for each in detail["entries"]["items"]
    ]
    title = (
        f"{detail['name']}: {plural(detail['size'], 'feature')}. {detail['description']}".strip()
    )
    print_table(("SAE", "feature", "about", "density", "max", "note"), rows, title)
    if detail["entries"]["next_cursor"]:
        say("There are more; 'monosemy list export' has all of them.")


@app.command()
@readable_errors
def change(
    name: ListArgument,
    rename: Annotated[str | None, typer.Option(help="Its new name.")] = None,
    description: Annotated[str | None, typer.Option(help="What the list is about.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Rename or describe a list.

    Example: monosemy list change kings --rename royals
    """
    fields = {"name": rename, "description": description}
    body = {key: value for key, value in fields.items() if value is not None}
    if not body:
        fail("Say what to change: --rename, --description.", USAGE)
    summary = connect().patch(f"/lists/{segment(name)}", body)
    if as_json:
        print_json(summary)
        return
    say(f"{summary['name']}: changed")


@app.command()
@readable_errors
def delete(name: ListArgument) -> None:
    """Delete a list; its features stay.

    Example: monosemy list delete kings
    """
    connect().delete(f"/lists/{segment(name)}")
    say(f"{name}: deleted")


@app.command()
@readable_errors
def add(
    name: ListArgument,
    sae: SaeArgument,
    features: Features,
    note: Annotated[str | None, typer.Option(help="Why they are there.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Put features at the end of a list; those in it already keep their place.

    Example: monosemy list add kings demo 42 7 --note "crowns"
    """
    noted = {} if note is None else {"note": note}
    _entries(name, "", [{**each, **noted} for each in _named(sae, features)], as_json, "added")


@app.command()
@readable_errors
def remove(
    name: ListArgument, sae: SaeArgument, features: Features, as_json: JsonFlag = False
) -> None:
    """Take features out of a list.

    Example: monosemy list remove kings demo 42
    """
    _entries(name, "/remove", _named(sae, features), as_json, "removed")


@app.command()
@readable_errors
def move(
    name: ListArgument,
    sae: SaeArgument,
    features: Features,
    to: Annotated[int, typer.Option(min=0, help="How many other entries stand before them.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Move entries of a list to another place, in the order given.

    Example: monosemy list move kings demo 7 42 --to 0
    """
    _entries(name, "/move", _named(sae, features), as_json, "moved", to=to)


@app.command()
@readable_errors
def export(
    name: ListArgument,
    form: Annotated[Form, typer.Option("--format", help="csv or jsonl.")] = Form.csv,
) -> None:
    """Write every entry of a list to standard output.

    Example: monosemy list export kings --format jsonl
    """
    text = connect().text(f"/lists/{segment(name)}/export", format=form.value)
    typer.echo(text.replace("\r\n", "\n"), nl=False)


@app.command()
@readable_errors
def page(
    name: ListArgument,
    destination: Annotated[Path, typer.Argument(help="File of HTML to write.")],
    as_json: JsonFlag = False,
) -> None:
    """Write the first 500 features of a list in short, as one page that opens anywhere.

    Example: monosemy list page kings kings.html
    """
    save_page(f"/lists/{segment(name)}/page", destination, as_json)


def _named(sae: str, features: list[int]) -> list[dict[str, Any]]:
    return [{"sae": sae, "feature": feature} for feature in features]


def _entries(
    name: str, how: str, entries: list[dict[str, Any]], as_json: bool, done: str, **more: Any
) -> None:
    if len(entries) > _AT_ONCE:
        fail(f"At most {_AT_ONCE} features at once.", USAGE)
    body = {"entries": entries, **more}
    changed = connect().post(f"/lists/{segment(name)}/entries{how}", body)
    if as_json:
        print_json(changed)
        return
    say(printable(f"{name}: {changed['changed']} {done}; {plural(changed['size'], 'feature')} now"))
