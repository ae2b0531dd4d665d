"""``monosemy explanation judge``, ``waiting`` and ``agreement``: what people answer, over REST."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from service.cli.client import Client, segment
from service.cli.connect import connect
from service.cli.explanations import ExplanationId, app
from service.cli.feature_text import score_text
from service.cli.output import (
    JsonFlag,
    number,
    out,
    plain,
    print_json,
    print_table,
    readable_errors,
    say,
)
from service.cli.provenance import provenance

app.command("provenance")(provenance)

_KEYS = "y yes, n no, s skip, u the one before again, q stop for now"


@app.command()
@readable_errors
def judge(
    explanation: ExplanationId,
    like: Annotated[
        str | None, typer.Option(help="Id of a detection score, whose very texts are asked.")
    ] = None,
    texts: Annotated[int, typer.Option(min=2, max=100, help="Of each kind, so many.")] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Take the detection test yourself: held-out texts, y or n each. Every answer is stored at
    once; the same command goes on where you stopped.

    Example: monosemy explanation judge 6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11
    """
    client = connect()
    body = {"like": like, "positives": texts, "negatives": texts}
    sitting = client.post(f"/explanations/{segment(explanation)}/sittings", body)
    say(f"Does this occur in the text?  {sitting['explanation']}")
    say(_KEYS)
    if not _answered(client, sitting):
        say("Stopped; the answers so far are stored.")
        return
    score = client.post(f"/sittings/{sitting['id']}/score", None)
    if as_json:
        print_json(score)
    else:
        out.print(plain(score_text(score)), highlight=False, soft_wrap=True)


def _answered(client: Client, sitting: dict[str, Any]) -> bool:
    """Asks for what is not answered; False where the person stopped."""
    order = [each["number"] for each in sitting["texts"] if not each["answered"]]
    place = 0
    while place < len(order):
        text = sitting["texts"][order[place]]
        out.print(f"\n[dim]{place + 1}/{len(order)}[/]  {plain(text['text'])}", highlight=False)
        key = typer.prompt("", prompt_suffix="> ").strip().lower()[:1]
        if key == "q":
            return False
        if key == "u":
            place = max(0, place - 1)
            continue
        if key not in ("y", "n", "s"):
            say(_KEYS)
            continue
        answer = None if key == "s" else key == "y"
        path = f"/sittings/{sitting['id']}/answers/{text['number']}"
        client.put(path, {"answer": answer})
        place += 1
    return True


@app.command()
@readable_errors
def waiting(
    sae: Annotated[str | None, typer.Option(help="Features of this SAE.")] = None,
    listed: Annotated[str | None, typer.Option("--list", help="Features of this list.")] = None,
    mode: Annotated[
        Literal["write", "vote", "judge"],
        typer.Option(help="An explanation of your own, votes, or the detection test."),
    ] = "write",
    todo: Annotated[
        bool, typer.Option("--todo", help="Only those that you have not done yet.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List the features that wait for your label, and how far you have come.

    Example: monosemy explanation waiting --sae demo --mode vote --todo
    """
    page = connect().get("/labelling", sae=sae, list=listed, mode=mode, todo=todo, limit=limit)
    if as_json:
        print_json(page)
        return
    rows = [
        (each["sae"], each["feature"], each["explanation"], "done" if each["done"] else "")
        for each in page["items"]
    ]
    print_table(("SAE", "feature", "explanation", ""), rows)
    say(f"You have done {page['done']:,} of {page['total']:,}.")
    if page["next_cursor"]:
        say("There are more; raise --limit.")


@app.command()
@readable_errors
def agreement(
    of: Annotated[str, typer.Option(help="votes, or sittings (detection tests).")] = "votes",
    sae: Annotated[str | None, typer.Option(help="Only of this SAE.")] = None,
    listed: Annotated[str | None, typer.Option("--list", help="Only of this list.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show how far people, and judges, agree: Cohen's kappa with its 95 % interval.

    Example: monosemy explanation agreement --of sittings --sae demo
    """
    table = connect().get("/agreement", of=of, sae=sae, list=listed)
    if as_json:
        print_json(table)
        return
    rows = [
        (
            pair["first"]["name"],
            pair["second"]["name"],
            pair["n"],
            number(pair["observed"], ".2f"),
            number(pair["kappa"], ".2f"),
            f"{pair['low']:.2f} to {pair['high']:.2f}",
        )
        for pair in table["pairs"]
    ]
    print_table(("first", "second", "n", "agree on", "kappa", "95 %"), rows)
    if not rows:
        say("No question has been answered by two yet.")
