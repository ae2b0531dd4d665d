"""``monosemy run``: submit, follow and steer runs over REST."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from monosemy.exit_codes import USAGE
from monosemy.progress_text import describe, short
from monosemy.specs import KINDS, RunSpec, apply_overrides, load_spec, parse_spec
from monosemy.specs.names import LATEST
from monosemy.specs.plugins import load_plugins
from monosemy.specs.readings import BASELINE, TrainingReading
from monosemy.specs.rest.runs import RunWaiting
from service.cli.client import Client, NotFound, segment
from service.cli.connect import connect
from service.cli.following import follow, submitted
from service.cli.output import (
    JsonFlag,
    out,
    print_json,
    print_json_line,
    print_table,
    printable,
    readable_errors,
    say,
    tell,
)
from service.cli.watch import line_of

app = typer.Typer(no_args_is_help=True, help="Submit, follow and control runs.")

RunId = Annotated[str, typer.Argument(help="Id of the run.")]
LookedAt = Annotated[
    str, typer.Argument(help="Id of the run, or 'latest' for the one submitted last.")
]


@app.command()
@readable_errors
def submit(
    spec: Annotated[Path | None, typer.Argument(help="YAML or JSON file with the spec.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="Kind of run (`run kinds`), with or without a file.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="a.b=value laid over the spec; repeatable.")
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(
            min=-100,
            max=100,
            help="Higher ones start first; above 0 needs an admin key.",
        ),
    ] = None,
    watch: Annotated[bool, typer.Option(help="Follow the run until it ends.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Submit a run; prints its id.

    Example: monosemy run submit --kind pipeline --set training.tokens=200000 --watch
    """
    data: dict[str, Any] = load_spec(spec) if spec is not None else {}
    if kind is not None:
        data["kind"] = kind
    data = apply_overrides(data, overrides or [])
    parse_spec(data)  # says at once, and with the same words, what the API would say
    client = connect()
    run = submitted(client, data, priority=priority)
    if watch:
        say(f"run {run['id']}")
        follow(client, run["id"], as_json)
    elif as_json:
        print_json(run)
    else:
        out.print(run["id"], highlight=False)


@app.command()
@readable_errors
def kinds(as_json: JsonFlag = False) -> None:
    """List the kinds of runs that a spec can name; with --json, with the schema of each.

    Example: monosemy run kinds
    """
    load_plugins()
    if as_json:
        print_json(
            [
                {"kind": name, "queue": kind.queue, "schema": kind.model_json_schema()}
                for name, kind in KINDS.items()
            ]
        )
        return
    rows = [(name, kind.queue, _first_sentence(kind)) for name, kind in KINDS.items()]
    print_table(("kind", "queue", "what it does"), rows)


def _first_sentence(kind: type[RunSpec]) -> str:
    text = " ".join((kind.__doc__ or "").split())
    return text.split(". ")[0].rstrip(".")


@app.command()
@readable_errors
def check(
    spec: Annotated[Path, typer.Argument(help="YAML or JSON file with the spec.")],
    as_json: JsonFlag = False,
) -> None:
    """Say what the service would refuse a spec for, without submitting it; exits with 2 if it
    would.

    Example: monosemy run check spec.yaml
    """
    reading = connect().runs.parse(load_spec(spec))
    if as_json:
        print_json(reading.model_dump(mode="json"))
    for fault in reading.errors:
        say(f"{fault.path}: {fault.message}" if fault.path else fault.message)
    if reading.errors:
        raise typer.Exit(USAGE)
    if not as_json:
        tell(f"It would be executed by the queue '{reading.queue}'.")


@app.command("list")
@readable_errors
def list_(
    state: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only runs of this kind.")] = None,
    steps: Annotated[
        bool, typer.Option(help="Also show the steps of pipelines (--kind does so too).")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List runs, newest first.

    Example: monosemy run list --state running
    """
    parent = None if steps or kind else "none"
    page = connect().get("/runs", state=state, kind=kind, parent=parent, limit=limit)
    if as_json:
        print_json(page)
        return
    rows = [
        (
            run["id"],
            run["kind"],
            " ".join(filter(None, (run["subject"], run.get("other"), run.get("scorer")))),
            run["state"],
            run["created_at"][:19],
            run["error"] or "",
        )
        for run in page["items"]
    ]
    print_table(("id", "kind", "of", "state", "created", "error"), rows)
    if page["next_cursor"]:
        say("There are more; raise --limit or narrow the list down.")


@app.command()
@readable_errors
def show(run_id: LookedAt, as_json: JsonFlag = False) -> None:
    """Show a run and its steps.

    Example: monosemy run show 6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11
    """
    client = connect()
    run_id = _run(client, run_id)
    run = client.get(f"/runs/{segment(run_id)}")
    if as_json:
        print_json(run)
        return
    rows = []
    for each in [run, *run["children"]]:
        progress = each["progress"] if each["state"] == "running" else {}
        where = f"{progress['stage']}: {describe(progress)}" if progress else each["error"] or ""
        forecast = " (forecast)" if each["spec"].get("dry_run") else ""
        rows.append((f"{each['kind']}{forecast}", each["state"], each["attempt"], where))
        rows += [("", f"  {stage['stage']}", "", describe(stage, True)) for stage in each["stages"]]
    print_table(("kind", "state", "attempt", ""), rows, title=run["id"])
    for each in [run, *run["children"]]:
        for warning in each.get("warnings", []):
            say(f"{each['kind']}: {warning}")
    if "queued" in {each["state"] for each in [run, *run["children"]]}:
        say(_waiting(client.runs.waiting(run_id)))
    if (run["result"] or {}).get("sae_id"):
        say(f"Its SAE: monosemy sae show {run['result']['sae_id']}")


def _run(client: Client, reference: str) -> str:
    """The id that ``reference`` stands for."""
    if reference != LATEST:
        return reference
    newest = client.get("/runs", parent="none", limit=1)["items"]
    if not newest:
        raise NotFound("There are no runs.")
    return str(newest[0]["id"])


def _waiting(waiting: RunWaiting) -> str:
    """What a run waits for, in words."""
    ahead = f"{waiting.ahead:,} go before it" if waiting.ahead else "it is next"
    return {
        "nothing": "It waits for nothing.",
        "turn": f"It waits for a worker of '{waiting.queue}'; {ahead}.",
        "time": f"It is tried again at {waiting.until}.",
        "run": f"It waits for the run {waiting.depends_on}.",
        "paused queue": f"The queue '{waiting.queue}' is paused.",
        "full queue": f"The queue '{waiting.queue}' is as full as it may be; {ahead}.",
        "full key": "Its API key has as many runs under way as it may have.",
    }[waiting.waits_for]


@app.command()
@readable_errors
def log(
    run_id: LookedAt,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Print the last lines of a run's log and its changes of state, the newest last.

    Example: monosemy run log 6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11
    """
    client = connect()
    run_id = _run(client, run_id)
    family = client.runs.get(run_id)
    kinds = {run.id: run.kind for run in (family, *family.children)}
    events = [each.model_dump(mode="json") for each in client.runs.log(run_id, limit)]
    for event in reversed(events):
        if as_json:
            print_json_line(event)
        elif (line := line_of(kinds.get(uuid.UUID(event["run_id"]), "run"), event)) is not None:
            text = printable(f"{event['created_at'][:19]}  {line}")
            out.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)


@app.command()
@readable_errors
def watch(run_id: LookedAt, as_json: JsonFlag = False) -> None:
    """Follow a run until it ends: 0 when it succeeds, 1 when it fails or is cancelled.

    With --json each event is one line, and the last line is {"type": "end", "data": the run}.
    Ctrl-C ends the watching, not the run.

    Example: monosemy run watch 6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11
    """
    client = connect()
    follow(client, _run(client, run_id), as_json)


@app.command()
@readable_errors
def readings(
    run_id: LookedAt,
    place: Annotated[
        int | None, typer.Option(min=0, help="Only the SAE at this place of a sweep.")
    ] = None,
    points: Annotated[int, typer.Option(min=1, max=10_000, help="Most readings of an SAE.")] = 20,
    after: Annotated[int | None, typer.Option(min=0, help="Only those past this step.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show how a training goes or went: FVU, L0, loss, dead latents; of several SAEs the newest
    reading of each.

    Example: monosemy run readings 6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11
    """
    client = connect()
    path = f"/runs/{segment(_run(client, run_id))}/training"
    training = client.get(path, place=place, points=points, after=after)
    if as_json:
        print_json(training)
        return
    saes = training["saes"]
    shown = [
        (sae["name"] or sae["place"], reading)
        for sae in saes
        for reading in (sae["readings"] if len(saes) == 1 else sae["readings"][-1:])
    ]
    flat = [TrainingReading.model_validate(reading).flat() for _, reading in shown]
    columns = list(dict.fromkeys(name for each in flat for name in each))
    columns = [name for name in columns if not name.startswith(f"{BASELINE}.") or "fvu" in name]
    rows = [
        (name, *(_figure(each.get(column)) for column in columns))
        for (name, _), each in zip(shown, flat, strict=True)
    ]
    if not rows:
        say("There are no readings." if saes else f"The run {run_id} trains no SAE: no readings.")
        return
    print_table(("SAE", *columns), rows, title=f"{training['run_id']} {training['state']}")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else short(value)


@app.command()
@readable_errors
def prioritise(
    run_id: RunId,
    priority: Annotated[
        int,
        typer.Argument(min=-100, max=100, help="0 by default; above 0 needs an admin key."),
    ],
    as_json: JsonFlag = False,
) -> None:
    """Move a waiting run before or behind others.

    Example: monosemy run prioritise 6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11 10
    """
    _changed(connect().patch(f"/runs/{segment(run_id)}", {"priority": priority}), as_json)


@app.command()
@readable_errors
def delete(run_id: RunId) -> None:
    """Delete a run that has ended, a pipeline with its steps; what it made stays.

    Example: monosemy run delete 6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11
    """
    connect().delete(f"/runs/{segment(run_id)}")
    say(f"run {run_id}: deleted; its files stay until 'monosemy gc --delete'.")


@app.command()
@readable_errors
def cancel(run_id: RunId, as_json: JsonFlag = False) -> None:
    """Cancel a run; its checkpoint is kept.

    Example: monosemy run cancel 6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11
    """
    _changed(connect().post(f"/runs/{segment(run_id)}/cancel", None), as_json)


@app.command()
@readable_errors
def retry(run_id: RunId, as_json: JsonFlag = False) -> None:
    """Take a failed or cancelled run up again, from its checkpoint.

    Example: monosemy run retry 6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11
    """
    _changed(connect().post(f"/runs/{segment(run_id)}/retry", None), as_json)


def _changed(run: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(run)
    else:
        out.print(run["state"], highlight=False)
