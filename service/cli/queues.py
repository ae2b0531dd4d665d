"""``monosemy queue``: look at queues, pause, resume and limit them, over REST."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from service.cli.client import segment
from service.cli.connect import connect
from service.cli.output import JsonFlag, print_json, print_table, readable_errors, say

app = typer.Typer(no_args_is_help=True, help="Look at queues; pause, resume and limit them.")


class Name(StrEnum):
    """Queues that workers take runs from."""

    gpu = "gpu"
    interp = "interp"


QueueArgument = Annotated[Name, typer.Argument(help="Which queue.")]


@app.command("list")
@readable_errors
def list_(as_json: JsonFlag = False) -> None:
    """List queues with their waiting and running runs.

    Example: monosemy queue list
    """
    items = connect().get("/queues")["items"]
    if as_json:
        print_json(items)
        return
    rows = [
        (
            each["name"],
            "paused" if each["paused"] else "open",
            each["queued"],
            each["running"],
            each["max_running"] if each["max_running"] is not None else "-",
        )
        for each in items
    ]
    print_table(("queue", "", "queued", "running", "at most"), rows)


@app.command()
@readable_errors
def pause(name: QueueArgument, as_json: JsonFlag = False) -> None:
    """Start no further run of a queue; running ones go on.

    Example: monosemy queue pause gpu
    """
    _changed(name, {"paused": True}, as_json)


@app.command()
@readable_errors
def resume(name: QueueArgument, as_json: JsonFlag = False) -> None:
    """Let runs of a queue start again.

    Example: monosemy queue resume gpu
    """
    _changed(name, {"paused": False}, as_json)


@app.command()
@readable_errors
def limit(
    name: QueueArgument,
    runs: Annotated[int, typer.Argument(min=0, help="Most runs at once; 0: no limit.")],
    as_json: JsonFlag = False,
) -> None:
    """Limit how many runs of a queue run at once.

    Example: monosemy queue limit gpu 2
    """
    _changed(name, {"max_running": runs}, as_json)


def _changed(name: Name, change: dict[str, Any], as_json: bool) -> None:
    queue = connect().patch(f"/queues/{segment(name.value)}", change)
    if as_json:
        print_json(queue)
        return
    state = "paused" if queue["paused"] else "open"
    most = f", at most {queue['max_running']} at once" if queue["max_running"] is not None else ""
    say(f"{queue['name']}: {state}{most}; {queue['queued']} queued, {queue['running']} under way")
