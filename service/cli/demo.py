"""``monosemy demo``: the whole way on a real model, through the public API."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from monosemy.exit_codes import FAILED, INTERRUPTED
from monosemy.progress_text import clock
from monosemy.specs import PipelineRun
from monosemy.specs.run_states import ENDED, RETRYABLE
from service.cli.client import ApiError, Client
from service.cli.demo_report import report, show_first_features
from service.cli.demo_size import SMALL, Measuring, full, same_demo
from service.cli.following import how_it_ended
from service.cli.output import plain, readable_errors
from service.cli.stack_commands import Port, sigterm_as_interrupt, stack_settings
from service.cli.watch import Event, watch_run


@readable_errors
def demo(
    exit_when_done: Annotated[
        bool, typer.Option("--exit", help="Exit when the result is there.")
    ] = False,
    small: Annotated[bool, typer.Option(help="A smaller run of the same steps.")] = False,
    home: Annotated[Path | None, typer.Option(help="Where everything is kept.")] = None,
    port: Port = None,
) -> None:
    """Train, index, explain and serve on a real model: one run through the public API.

    Starts the embedded stack, submits a pipeline run (or shows the one that an earlier demo
    finished), and keeps serving until Ctrl-C.  It measures the machine and sizes the training by
    that.  Features can be browsed once they are indexed, while evaluation and judge go on.

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
    with (
        sigterm_as_interrupt(),
        nullcontext() if small else Measuring() as measuring,
        Stack(settings, on_event=tell) as stack,
    ):
        url = stack.addresses.url
        key = settings.api_key.get_secret_value() if settings.api_key else None
        client = Client(url, key, patience=0)
        try:
            run = _pipeline(client, measuring, console)
            if measuring is not None:
                measuring.close()  # an earlier demo's run needs no measurement
            told: set[str] = set()
            if run["state"] not in ENDED:
                console.print(f"To watch: {url}/runs/{run['id']}", highlight=False, soft_wrap=True)
                shown = FirstFeatures(client, run["id"], console, url, started)
                run = watch_run(client, run["id"], console, on_event=shown)
                told = shown.failed
            if run["state"] != "succeeded":
                console.print(plain(how_it_ended(run, told)), style="red", highlight=False)
                raise typer.Exit(FAILED)
            local_judge = stack.judge and settings.judge_url is None
            report(client, run, console, None if exit_when_done else url, local_judge)
            console.print(f"All is done after {_clock(started)}.", highlight=False)
            if not exit_when_done:
                console.print("\nServing until [bold]Ctrl-C[/]; the data stays.")
                stack.wait()
        except KeyboardInterrupt:
            console.print("\nStopping; the data stays, and the next demo goes on from here.")
            if exit_when_done:
                raise typer.Exit(INTERRUPTED) from None
    console.print("Stopped.")


class FirstFeatures:
    """Shows what there is to see at the end of the index, while evaluation and judge go on."""

    def __init__(
        self, client: Client, run_id: str, console: Console, url: str, started: float
    ) -> None:
        self._client, self._run_id = client, run_id
        self._console, self._url, self._started = console, url, started
        self.failed: set[str] = set()
        """Ids of the steps of which it has been shown that they failed, and why."""

    def __call__(self, kind: str, event: Event) -> None:
        if event["data"].get("state") == "failed":
            self.failed.add(event["run_id"])
        if kind != "index" or event["data"].get("state") != "succeeded":
            return
        try:
            run = self._client.get(f"/runs/{self._run_id}")
            sae = self._client.get(f"/saes/{run['result']['sae_id']}")
        except ApiError:
            return  # the run goes on, and the report at its end shows the same
        self._console.print(
            f"\n[bold green]The features are served, {_clock(self._started)} after the start[/]; "
            "evaluation, explanations and scores follow."
        )
        show_first_features(self._client, sae, self._console, self._url)


def _clock(started: float) -> str:
    return f"{clock(time.monotonic() - started)} min"


def _pipeline(client: Client, measuring: Measuring | None, console: Console) -> dict[str, Any]:
    """The demo's run: an earlier one, one under way, or a new one; the small one without a
    ``measuring``."""
    run = earlier_run(client, SMALL if measuring is None else full(None))
    if run is None:
        size = None if measuring is None else measuring.size()
        if size is not None:
            console.print(f"\n{size.sentence()}", highlight=False)
        spec = SMALL if measuring is None else full(size)
        run = client.post("/runs", spec.model_dump(mode="json"))
        console.print(f"\nSubmitted run {run['id']} (POST /api/v1/runs)\n", highlight=False)
    elif run["state"] == "succeeded":
        console.print(f"\nAn earlier demo did this already: run {run['id']}", highlight=False)
    elif run["state"] in RETRYABLE:
        run = client.post(f"/runs/{run['id']}/retry", None)
        console.print(f"\nTaking run {run['id']} up again\n", highlight=False)
    else:
        console.print(f"\nRun {run['id']} is under way\n", highlight=False)
    return run


def earlier_run(client: Client, spec: PipelineRun) -> dict[str, Any] | None:
    """The newest pipeline run with this spec, of whatever size."""
    wanted = spec.model_dump(mode="json")
    listed = client.get("/runs", kind="pipeline", limit=100)
    for item in listed["items"]:
        run: dict[str, Any] = client.get(f"/runs/{item['id']}")
        if same_demo(run["spec"], wanted):
            return run
    return None
