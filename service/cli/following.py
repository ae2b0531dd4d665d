"""A run from its submission to its end, as a command shows it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from monosemy.exit_codes import FAILED, INTERRUPTED
from monosemy.figures import plural
from monosemy.specs.run_states import ending_in_words
from service.cli.client import Client
from service.cli.connect import connect
from service.cli.faults import in_commands
from service.cli.output import fail, out, print_json_line, say, tell
from service.cli.watch import Event, watch_run

_FAILURES = 20
"""Features named that a run could not do."""


def submitted(client: Client, spec: dict[str, Any], **query: Any) -> dict[str, Any]:
    """Submits a run; what is to be known of it at once is said on standard error."""
    run: dict[str, Any] = client.post("/runs", spec, **query)
    for each in (run, *run["children"]):
        for warning in each.get("warnings", []):
            say(f"{each['kind']}: {warning}")
    return run


def run_and_show(
    spec: dict[str, Any],
    path: str,
    show: Callable[[dict[str, Any]], None],
    as_json: bool,
    **query: Any,
) -> None:
    """Submits a run, watches it to its end, and shows what it made: what REST has at ``path``, in
    which ``{run}`` stands for its id, as it does in texts of the ``query``."""
    client = connect()
    run = submitted(client, spec)
    follow(client, run["id"], as_json)
    if not as_json:
        own = {"run": run["id"]}
        asked = {k: v.format(**own) if isinstance(v, str) else v for k, v in query.items()}
        show(client.get(path.format(**own), **asked))


def follow(client: Client, run_id: str, as_json: bool) -> None:
    """Watches the run to its end; one that does not succeed ends the command with ``FAILED``."""
    reported: set[str] = set()

    def note(_: str, event: Event) -> None:
        if event["data"].get("state") == "failed" and not as_json:
            reported.add(event["run_id"])

    try:
        run = watch_run(client, run_id, out, as_json, note)
    except KeyboardInterrupt:
        fail(f"The run goes on; see 'monosemy run watch {run_id}'.", INTERRUPTED)
    if as_json:
        print_json_line({"type": "end", "data": run})
    if run["state"] != "succeeded":
        fail(in_commands(how_it_ended(run, reported)), FAILED)
    if not as_json:
        out.print(f"The run {run['state']}.", highlight=False)
        for each in (run, *run["children"]):
            say_what_failed(each)
        if made := names_of_made(run):
            tell(f"It made {', '.join(made)}.")


def names_of_made(run: dict[str, Any]) -> list[str]:
    """Of the SAEs that a run and its steps made."""
    results = [each["result"] or {} for each in (run, *run["children"]) if each["queue"] != "none"]
    saes = [sae for result in results for sae in result.get("saes") or [result]]
    named = [sae for sae in saes if isinstance(sae, dict) and sae.get("sae_id")]
    return [str(sae["name"]) for sae in named if sae.get("name")]


def how_it_ended(run: dict[str, Any], reported: Collection[str]) -> str:
    """A sentence on a run that did not succeed; reasons of steps that were ``reported`` (their ids)
    are not reported again."""
    failed = [child for child in run["children"] if child["state"] == "failed"]
    if failed and all(child["id"] in reported for child in failed):
        kinds = " and ".join(dict.fromkeys(child["kind"] for child in failed))
        return f"The run {ending_in_words(run['state'], None)} at {kinds}; the reason is above."
    return f"The run {ending_in_words(run['state'], run['error'])}"


def say_what_failed(run: dict[str, Any]) -> None:
    """Names the features that a run which succeeded otherwise could not do."""
    result = run["result"] or {}
    if not result.get("failed"):
        return
    reasons = list(result["failures"].items())
    lines = [f"  {feature}: {reason}" for feature, reason in reasons[:_FAILURES]]
    if result["failed"] > len(lines):
        lines.append("  ...")
    say(
        "\n".join(
            [f"{run['kind']}: {plural(result['failed'], 'feature')} could not be done:", *lines]
        )
    )
