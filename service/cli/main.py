"""The ``monosemy`` command."""

from __future__ import annotations

from typing import Annotated

import typer

from monosemy.exit_codes import described
from service.cli import (
    attention,
    backup,
    bases,
    benchmarks,
    circuits,
    common_graphs,
    comparisons,
    concepts,
    embedding,
    explanations,
    export,
    feature_circuits,
    features,
    graphs,
    heads,
    inference,
    interchange,
    judging,
    keys,
    labelling,
    layouts,
    lists,
    queues,
    runs,
    saes,
    sets,
    stack_commands,
    steering,
    supernodes,
    tags,
    tasks,
)
from service.cli.demo import demo
from service.cli.doctor import doctor
from service.cli.garbage import gc
from service.cli.usage import PlainGroup
from service.version import version

app = typer.Typer(
    name="monosemy",
    cls=PlainGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train sparse autoencoders on a language model, explain and score features, serve them.",
    epilog=described(),
)

for command in (
    demo,
    doctor,
    gc,
    stack_commands.up,
    stack_commands.migrate,
    embedding.reembed,
    stack_commands.serve,
    stack_commands.worker,
    stack_commands.inference,
    backup.backup,
    backup.restore,
    saes.models,
    features.features,
    features.search,
    inference.activations,
    inference.tokenize,
    inference.contrast,
    attention.attention,
    steering.steer,
    comparisons.compare,
    comparisons.links,
    layouts.layout,
    tasks.task,
    benchmarks.benchmark,
    feature_circuits.feature_circuit,
    bases.basis,
    bases.bases,
    heads.heads,
    explanations.explain,
    explanations.score,
    explanations.spend,
    explanations.report,
):
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"monosemy {version()}")
        raise typer.Exit


@app.callback()
def _root(
    shown: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Declares the options of ``monosemy`` itself."""


app.add_typer(runs.app, name="run")
app.add_typer(queues.app, name="queue")
app.add_typer(saes.app, name="sae")
app.add_typer(sets.app, name="set")
app.add_typer(features.app, name="feature")
app.add_typer(lists.app, name="list")
app.add_typer(tags.app, name="tag")
app.add_typer(export.app, name="export")
app.add_typer(labelling.app, name="explanation")
app.add_typer(comparisons.app, name="comparison")
app.add_typer(tasks.app, name="tasks")
app.add_typer(benchmarks.app, name="benchmarks")
app.add_typer(circuits.app, name="circuit")
graphs.app.command()(common_graphs.common)
graphs.app.command()(supernodes.supernodes)
app.add_typer(graphs.app, name="graph")
app.add_typer(concepts.app, name="concept")
app.add_typer(interchange.app, name="labels")
app.add_typer(judging.app, name="judge")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Entry point of the console script."""
    app()
