"""``monosemy demo``: the whole way on a real model, through the public API."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from monosemy.specs import (
    EvaluationSpec,
    ExplanationSpec,
    FeatureSelection,
    JudgeSpec,
    PipelineRun,
    ScoringSpec,
    TextSpec,
    TopKSpec,
    TrainingSpec,
)
from monosemy.specs.run_states import RETRYABLE
from service.cli.client import Client
from service.cli.demo_report import report
from service.cli.output import readable_errors
from service.cli.stack_commands import Port, sigterm_as_interrupt, stack_settings
from service.cli.watch import watch_run

FULL = PipelineRun(
    name="demo",
    explanation=ExplanationSpec(features=FeatureSelection(count=12)),
    # By the sentence embedder, by what the host model writes, and by the judge if its test shows
    # that it can tell texts apart.
    scoring=[
        ScoringSpec(scorer="embedding"),
        ScoringSpec(scorer="intervention", positives=5),
        ScoringSpec(judge=JudgeSpec(test="require")),
    ],
)

# The same path at a size for continuous integration.
SMALL = PipelineRun(
    name="demo-small",
    text=TextSpec(max_tokens=200_000),
    sae=TopKSpec(d_sae=1024, dead_after_tokens=50_000),
    training=TrainingSpec(tokens=200_000, buffer_tokens=16_384),
    evaluation=EvaluationSpec(tokens=2_000, reconstruction_tokens=8_000),
    explanation=ExplanationSpec(features=FeatureSelection(count=8, min_postings=200)),
    scoring=[
        ScoringSpec(scorer="embedding", positives=5, negatives=5),
        ScoringSpec(scorer="intervention", positives=4),
        ScoringSpec(positives=5, negatives=5, judge=JudgeSpec(test="require")),
    ],
)


@readable_errors
def demo(
    exit_when_done: Annotated[
        bool, typer.Option("--exit", help="Stop by itself when the result is there.")
    ] = False,
    small: Annotated[bool, typer.Option(help="A reduced size, through the same path.")] = False,
    home: Annotated[Path | None, typer.Option(help="Where everything is kept.")] = None,
    port: Port = None,
) -> None:
    """Train, index, explain and serve on a real model: one run through the public API.

    Starts the embedded stack, submits a pipeline run (or shows the one that an earlier demo
    finished), and keeps serving until Ctrl-C.

    Example: monosemy demo --exit
    """
    from service.stack.supervisor import Stack

    settings = stack_settings(home=home, port=port)
    console = Console(stderr=False)
    started = time.monotonic()

    def tell(part: str, text: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:5.1f} s[/]  {part}: {text}")

    console.rule("[bold]monosemy demo")
    console.print(f"Everything is kept in {settings.home}\n", highlight=False, soft_wrap=True)
    with sigterm_as_interrupt(), Stack(settings, on_event=tell) as stack:
        key = settings.api_key.get_secret_value() if settings.api_key else None
        client = Client(stack.addresses.url, key, patience=0)
        try:
            run = run_pipeline(client, SMALL if small else FULL, console)
            if run["state"] != "succeeded":
                console.print(f"[red]The run {run['state']}:[/] {run['error']}", highlight=False)
                raise typer.Exit(1)
            local_judge = stack.judge and settings.judge_url is None
            url = None if exit_when_done else stack.addresses.url
            report(client, run, console, url, local_judge)
            if not exit_when_done:
                console.print("\nServing until [bold]Ctrl-C[/]; the data stays.")
                stack.wait()
        except KeyboardInterrupt:
            console.print("\nStopping; the data stays, and the next demo goes on from here.")
            if exit_when_done:
                raise typer.Exit(130) from None
    console.print("Stopped.")


def run_pipeline(client: Client, spec: PipelineRun, console: Console) -> dict[str, Any]:
    """The finished run of ``spec``: an earlier one, one under way, or a new one."""
    found = earlier_run(client, spec)
    if found is None:
        found = client.post("/runs", spec.model_dump(mode="json"))
        console.print(f"\nSubmitted run {found['id']} (POST /api/v1/runs)\n", highlight=False)
    elif found["state"] == "succeeded":
        console.print(f"\nAn earlier demo did this already: run {found['id']}", highlight=False)
        return client.get(f"/runs/{found['id']}")
    elif found["state"] in RETRYABLE:
        found = client.post(f"/runs/{found['id']}/retry", None)
        console.print(f"\nTaking run {found['id']} up again\n", highlight=False)
    else:
        console.print(f"\nRun {found['id']} is under way\n", highlight=False)
    return watch_run(client, found["id"], console)


def earlier_run(client: Client, spec: PipelineRun) -> dict[str, Any] | None:
    """The newest pipeline run with just this spec."""
    wanted = spec.model_dump(mode="json")
    listed = client.get("/runs", kind="pipeline", limit=100)
    for item in listed["items"]:
        run = client.get(f"/runs/{item['id']}")
        if run["spec"] == wanted:
            return run
    return None
