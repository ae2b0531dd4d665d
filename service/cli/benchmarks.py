"""``monosemy benchmark`` and ``benchmarks``: how good SAEs are, and which can be told apart."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from monosemy.benchmarking.probing.result_files import write_probing_files
from monosemy.benchmarking.saebench_file import saebench_name
from monosemy.figures import plural
from monosemy.specs import BENCHMARKS, apply_overrides
from monosemy.specs.plugins import load_plugins
from monosemy.specs.rest.benchmarks import BenchmarkView
from service.cli.client import segment
from service.cli.connect import connect
from service.cli.following import run_and_show
from service.cli.output import (
    JsonFlag,
    moment,
    print_json,
    print_table,
    readable_errors,
    say,
    tell,
)

app = typer.Typer(no_args_is_help=True, help="Look at what benchmarks found of SAEs.")

ResultArgument = Annotated[str, typer.Argument(help="Id of the result, or 'latest'.")]
Limit = Annotated[int, typer.Option(min=1, max=200, help="How many.")]


class Layout(StrEnum):
    """Whose result files."""

    saebench = "saebench"
    sae_probes = "sae-probes"


@readable_errors
def benchmark(
    names: Annotated[list[str], typer.Argument(help="Benchmarks; `benchmarks kinds` lists them.")],
    saes: Annotated[
        list[str], typer.Option("--sae", help="Id or name of an SAE; may be given more than once.")
    ],
    seeds: Annotated[
        list[int] | None,
        typer.Option("--seed", help="Of splits, draws and probes; may be given more than once."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of a benchmark: core.tokens=8192; repeatable."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure SAEs by benchmarks, each beside its baselines and chance.

    Example: monosemy benchmark core --sae small --sae large
    """
    options: dict[str, Any] = {name: {} for name in names}
    for each in overrides or []:
        if each.partition(".")[0] not in options:
            says = f"'{each}' must begin with the name of a benchmark, such as {names[0]}.seeds"
            raise typer.BadParameter(says, param_hint="--set")
    options = apply_overrides(options, overrides or [])
    given = {"seeds": seeds} if seeds else {}
    asked = [{"benchmark": name, **given, **options[name]} for name in dict.fromkeys(names)]
    spec = {"kind": "benchmark", "saes": saes, "benchmarks": asked}
    run_and_show(spec, "/runs/{run}", _show_run, as_json)


@app.command()
@readable_errors
def kinds(as_json: JsonFlag = False) -> None:
    """List the benchmarks there are, with the fields of each.

    Example: monosemy benchmarks kinds
    """
    load_plugins()
    if as_json:
        print_json(
            [{"benchmark": n, "schema": each.model_json_schema()} for n, each in BENCHMARKS.items()]
        )
        return
    rows = [
        (name, ", ".join(each.model_fields), " ".join((each.__doc__ or "").split()))
        for name, each in BENCHMARKS.items()
    ]
    print_table(("benchmark", "options", "what it measures"), rows)


@app.command("list")
@readable_errors
def list_(
    sae: Annotated[str | None, typer.Option(help="Only those of this SAE.")] = None,
    benchmark: Annotated[str | None, typer.Option(help="Only those of this benchmark.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Only those by this protocol.")] = None,
    run: Annotated[str | None, typer.Option(help="Only those that this run measured.")] = None,
    limit: Limit = 50,
    as_json: JsonFlag = False,
) -> None:
    """List results, newest first, each by its headline metric.

    Example: monosemy benchmarks list --sae demo
    """
    asked = {"sae": sae, "benchmark": benchmark, "protocol": protocol, "run": run}
    page = connect().get("/benchmarks", **asked, limit=limit)
    if as_json:
        print_json(page)
        return
    rows = [
        (
            each["id"],
            each["sae"],
            each["benchmark"],
            each["figures"][0]["metric"],
            _figure(each["figures"][0]),
            each["protocol"],
            moment(each["created_at"]),
        )
        for each in page["items"]
    ]
    print_table(("id", "SAE", "benchmark", "metric", "value", "protocol", "measured"), rows)
    if page["next_cursor"]:
        say("There are more; narrow them down with --sae, --benchmark or --protocol.")


@app.command()
@readable_errors
def show(result: ResultArgument, as_json: JsonFlag = False) -> None:
    """Show every metric of a result, with what stands beside the SAE.

    Example: monosemy benchmarks show latest
    """
    found = connect().get(f"/benchmarks/{segment(result)}")
    if as_json:
        print_json(found)
        return
    about = found["about"]
    tell(
        f"{found['sae']} by {found['benchmark']} (version {found['version']}), {about['model']} at"
        f" {about['site']}: {plural(len(found['units']), found['unit'])}, seeds"
        f" {', '.join(str(each) for each in found['seeds'])}; protocol {about['protocol']}."
    )
    rows = [
        (
            each["metric"],
            each["subject"],
            _figure(each),
            each["n"],
            _number(each["seed_sd"]),
        )
        for each in found["metrics"]
    ]
    print_table(("metric", "of", "value (95 %)", "n", "sd of seeds"), rows)
    for note in found["notes"]:
        tell(note)


@app.command()
@readable_errors
def leaderboards(
    benchmark: Annotated[str | None, typer.Option(help="Only those of this benchmark.")] = None,
    model: Annotated[str | None, typer.Option(help="Only those of this host model.")] = None,
    site: Annotated[str | None, typer.Option(help="Only those of this place.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the protocols by which SAEs were measured; each has a leaderboard.

    Example: monosemy benchmarks leaderboards
    """
    found = connect().get("/leaderboards", benchmark=benchmark, model=model, site=site)
    if as_json:
        print_json(found)
        return
    rows = [
        (each["protocol"], each["benchmark"], each["model"], each["site"], str(each["saes"]))
        for each in found["items"]
    ]
    print_table(("protocol", "benchmark", "host model", "place", "SAEs"), rows)


@app.command()
@readable_errors
def leaderboard(
    protocol: Annotated[
        str, typer.Argument(help="Protocol, or 'latest' for that of the newest result.")
    ] = "latest",
    metric: Annotated[str | None, typer.Option(help="By default the headline.")] = None,
    against: Annotated[
        str | None, typer.Option(help="SAE that all are held against; by default the best.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show SAEs by one metric, and which can be told apart.

    Example: monosemy benchmarks leaderboard --metric l0
    """
    path = f"/leaderboards/{segment(protocol)}"
    board = connect().get(path, metric=metric, against=against)
    if as_json:
        print_json(board)
        return
    _show_board(board)


@app.command()
@readable_errors
def export(
    result: ResultArgument,
    folder: Annotated[Path, typer.Argument(help="Folder that the files are written into.")],
    layout: Annotated[Layout, typer.Option(help="Whose files.")] = Layout.saebench,
) -> None:
    """Write a result as SAEBench's file, or that of `probing` as those of sae-probes.

    Example: monosemy benchmarks export latest results --layout sae-probes
    """
    path = f"/benchmarks/{segment(result)}"
    found = BenchmarkView.model_validate(connect().get(path))
    if layout is Layout.sae_probes:
        files = write_probing_files(found, folder)
    else:
        made = connect().get(f"{path}/saebench")
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / saebench_name(found.sae)]
        files[0].write_text(json.dumps(made, indent=1), encoding="utf-8")
    tell(f"Wrote {plural(len(files), 'file')} into {files[0].parent}.")


@app.command()
@readable_errors
def delete(result: ResultArgument) -> None:
    """Delete a result; the SAE can be measured again.

    Example: monosemy benchmarks delete 6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11
    """
    connect().delete(f"/benchmarks/{segment(result)}")
    tell(f"Deleted the result {result}.")


def _show_run(run: dict[str, Any]) -> None:
    summary = run["result"]
    client = connect()
    for protocol in dict.fromkeys(each["protocol"] for each in summary["results"]):
        _show_board(client.get(f"/leaderboards/{segment(protocol)}"))
    for each in summary["not_measured"]:
        advice = f" {each['advice']}" if each["advice"] else ""
        say(f"{each['sae']} was not measured by {each['benchmark']}: {each['reason']}{advice}")


def _show_board(board: dict[str, Any]) -> None:
    subjects = list(dict.fromkeys(of["subject"] for row in board["rows"] for of in row["beside"]))
    rows = []
    for row in board["rows"]:
        beside = {each["subject"]: each for each in row["beside"]}
        rows.append(
            (
                row["sae"],
                _ranks(row),
                _figure(row["figure"]),
                *(_number(beside.get(subject, {}).get("value")) for subject in subjects),
                *([_difference(row["difference"])] if board["against"] else []),
            )
        )
    title = f"{board['benchmark']}, {board['metric']}: {board['model']} at {board['site']}"
    held = [f"less {board['against']}"] if board["against"] else []
    print_table(("SAE", "rank", "value (95 %)", *subjects, *held), rows, title=title)
    families = plural(board["families"], "family", "families")
    over = f"{plural(board['units'], board['unit'])} of {families}"
    if board["pairs"]:
        tell(
            f"{board['apart']} of {plural(board['pairs'], 'pair')} can be told apart, over {over};"
            " the intervals of all pairs hold together with 95 %."
        )
    else:
        tell(f"Over {over}; there is no other SAE by this protocol yet.")
    tell(f"Protocol {board['protocol']}.")
    for recipe in board["recipes"]:
        if recipe["seed_sd"] is not None:
            tell(
                f"{', '.join(recipe['saes'])} differ in their seed alone: mean"
                f" {_number(recipe['mean'])}, standard deviation {_number(recipe['seed_sd'])}."
            )
    for note in board["notes"]:
        tell(note)


def _ranks(row: dict[str, Any]) -> str:
    best, worst = row["best_rank"], row["worst_rank"]
    return "-" if best is None else str(best) if best == worst else f"{best}-{worst}"


def _difference(difference: dict[str, Any] | None) -> str:
    if difference is None:
        return ""
    told = "" if difference["apart"] else ", not told apart"
    return f"{_figure(difference)}{told}"


def _figure(figure: dict[str, Any]) -> str:
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None or low is None or high is None:
        return _number(value)
    return f"{_number(value)} ({_number(low)} to {_number(high)})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
