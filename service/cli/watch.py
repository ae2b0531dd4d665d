"""Following a run: progress bars on a terminal, plain lines elsewhere, JSON for machines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from monosemy.client.runs import follow
from monosemy.progress_text import bar_width, describe, is_due, shows_bars
from monosemy.specs.run_states import ENDED, state_in_words
from service.cli.client import Client, segment
from service.cli.output import plain, print_json_line, printable, say

Event = dict[str, Any]
"""As the stream of events has it: run_id, type, data."""


def watch_run(
    client: Client,
    run_id: str,
    console: Console,
    as_json: bool = False,
    on_event: Callable[[str, Event], None] | None = None,
) -> dict[str, Any]:
    """Shows a run and its steps until it has ended; returns it.

    Why the run itself failed is left to whoever tells how it ended; why a step did is shown.
    ``on_event`` is told the kind of the step and the event, once that is shown.  A lost connection
    is taken up after the last event that was seen.  Raises ``ApiError``, also when the service
    stays away for two minutes; the run itself goes on.
    """
    path = f"/runs/{segment(run_id)}"
    run: dict[str, Any] = client.get(path)
    if run["state"] in ENDED:
        return run
    kinds = {child["id"]: child["kind"] for child in [run, *run["children"]]}
    named = {} if as_json else {child["id"]: _called(child) for child in run["children"]}
    view = _choose_view(console, as_json)
    with view:
        for event in events(client, run_id):
            kind = kinds.get(event["run_id"], "run")
            bare = not as_json and event["run_id"] == run["id"]
            shown = _without_reason(event) if bare else event
            view.show(named.get(event["run_id"], kind), shown)
            if on_event is not None:
                on_event(kind, event)
    ended: dict[str, Any] = client.get(path)
    return ended


def events(client: Client, run_id: str) -> Iterator[dict[str, Any]]:
    """Every event of the run from the first on, over however many connections it takes."""
    for data in follow(client, run_id, lambda: say("The connection is lost; trying again.")):
        yield json.loads(data)


def _without_reason(event: Event) -> Event:
    """``event`` without why the run has ended."""
    if event["type"] != "state" or event["data"]["state"] not in ENDED:
        return event
    data = {name: value for name, value in event["data"].items() if name != "error"}
    return {**event, "data": data}


def _called(child: dict[str, Any]) -> str:
    """A step's kind; of score runs, which may be several, the scorer too."""
    scoring = child.get("spec", {}).get("scoring")
    scorer = scoring.get("scorer") if isinstance(scoring, dict) else None
    return f"{child['kind']} {scorer}" if scorer else str(child["kind"])


def _title(kind: str, data: dict[str, Any]) -> str:
    """Of a bar, in columns; the stage is left out where it is called as its step."""
    step, _, scorer = kind.partition(" ")
    stage = scorer if data["stage"] == step else data["stage"]
    return f"{step:<9}{stage:<12}"


def _name(kind: str, data: dict[str, Any]) -> str:
    """The same for a line."""
    return kind if data["stage"] == kind.partition(" ")[0] else f"{kind} {data['stage']}"


class _View(Protocol):
    def __enter__(self) -> _View: ...

    def __exit__(self, *exception: object) -> None: ...

    def show(self, kind: str, event: dict[str, Any]) -> None: ...


def _choose_view(console: Console, as_json: bool) -> _View:
    if as_json:
        return _JsonView()
    return _BarView(console) if shows_bars(console) else _PlainView(console)


class _BarView:
    """One bar per stage with rate, time left and the latest metrics."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=bar_width(console)),
            TextColumn("{task.fields[text]}"),
            console=console,
            refresh_per_second=4,
        )
        self._bars: dict[tuple[str, str], TaskID] = {}

    def __enter__(self) -> _BarView:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def show(self, kind: str, event: dict[str, Any]) -> None:
        data = event["data"]
        if event["type"] in ("progress", "stage"):
            key = (event["run_id"], data["stage"])
            if key not in self._bars:
                title = plain(_title(kind, data))
                self._bars[key] = self._progress.add_task(title, total=data["total"], text="")
            ended = event["type"] == "stage"
            # An ended stage has a full bar, also when its total was unknown or an estimate.
            total = data["done"] or 1 if ended else data["total"]
            done = total if ended else data["done"]
            taken = len(_title(kind, data)) + bar_width(self._console) + 3
            room = self._console.width - taken
            text = plain(describe(data, ended, room))
            self._progress.update(self._bars[key], completed=done, total=total, text=text)
        elif (line := line_of(kind, event)) is not None:
            self._progress.console.print(
                printable(line), highlight=False, markup=False, emoji=False
            )


class _PlainView:
    """A line every few seconds per stage, and one when it ends: for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: dict[tuple[str, str], float] = {}
        """When each stage had its last line."""

    def __enter__(self) -> _PlainView:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def show(self, kind: str, event: dict[str, Any]) -> None:
        data, now = event["data"], time.monotonic()
        if event["type"] in ("progress", "stage"):
            key, ended = (event["run_id"], data["stage"]), event["type"] == "stage"
            last = self._shown.get(key)
            elapsed = data.get("elapsed_seconds", 0.0)
            if not ended and last is not None and not is_due(now - last, elapsed, data["done"]):
                return
            self._shown[key] = now
            line: str | None = f"{_name(kind, data)}: {describe(data, ended)}"
        else:
            line = line_of(kind, event)
        if line is not None:
            self._console.print(
                printable(line), highlight=False, markup=False, emoji=False, soft_wrap=True
            )


class _JsonView:
    """Every event as it came, one JSON object a line on standard output."""

    def __enter__(self) -> _JsonView:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def show(self, kind: str, event: dict[str, Any]) -> None:
        print_json_line({"kind": kind, **event})


def line_of(kind: str, event: dict[str, Any]) -> str | None:
    """State changes and log lines in words."""
    data = event["data"]
    if event["type"] == "log":
        rest = " ".join(f"{k}={v}" for k, v in data.items() if k != "message")
        return f"{kind}: {data['message']} {rest}".rstrip()
    if event["type"] == "state" and data["state"] != "queued":
        again = " (taken over)" if data.get("takeover") else ""
        return f"{kind} {state_in_words(data['state'], data.get('error'))}{again}"
    if event["type"] == "state" and (data.get("interrupted") or data.get("error")):
        return f"{kind} queued again: {data.get('error') or 'its worker had to stop'}"
    return None
