"""``monosemy explain``, ``score``, ``spend`` and ``monosemy explanation``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from monosemy.exit_codes import USAGE
from monosemy.specs import apply_overrides, parse_spec
from service.cli.bases import show_beside
from service.cli.client import Client, segment
from service.cli.connect import connect
from service.cli.feature_text import score_text
from service.cli.following import follow, submitted
from service.cli.output import (
    JsonFlag,
    fail,
    number,
    out,
    plain,
    print_json,
    print_table,
    readable_errors,
    say,
)
from service.cli.saes import SaeArgument

app = typer.Typer(no_args_is_help=True, help="List, give, rate and remove explanations.")

Features = Annotated[
    list[int] | None,
    typer.Argument(
        min=0, help="Indices of features; without any, a sample (explain) or all (score)."
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="a.b=value laid over the spec; repeatable.")
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Only forecast what it would cost, by a run that does nothing else: a worker has to"
        " ask the judge a few questions for it.",
    ),
]
Watch = Annotated[bool, typer.Option(help="Follow the run until it ends.")]
Budget = Annotated[
    float | None,
    typer.Option(min=0, help="Most that the judge may cost; what is done by then is kept."),
]
Batch = Annotated[
    bool, typer.Option("--batch", help="Ask by the Batch API: cheaper, answers within a day.")
]
Concurrency = Annotated[int | None, typer.Option(min=1, help="Calls to the judge at a time.")]
FeatureArgument = Annotated[int, typer.Argument(min=0, help="Index of the feature.")]
ExplanationId = Annotated[str, typer.Argument(help="Id of the explanation.")]


@readable_errors
def explain(
    sae: SaeArgument,
    features: Features = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="How many features to sample, stratified over density."),
    ] = None,
    explainer: Annotated[str, typer.Option(help="Which explainer.")] = "default",
    budget: Budget = None,
    concurrency: Concurrency = None,
    batch: Batch = False,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    watch: Watch = True,
    as_json: JsonFlag = False,
) -> None:
    """Explain features of an SAE with the judge: those given, or a sample.

    Example: monosemy explain demo 3 17 42 --explainer contrastive
    """
    chosen = {"indices": list(features)} if features else {"count": count} if count else {}
    spec = {
        "kind": "explain",
        "sae": sae,
        "dry_run": dry_run,
        "explanation": {
            "explainer": explainer,
            "features": chosen,
            "judge": _given(budget=budget, concurrency=concurrency, batch=batch or None),
        },
    }
    _submit(spec, overrides, watch, as_json)


@readable_errors
def score(
    sae: SaeArgument,
    features: Features = None,
    scorer: Annotated[str, typer.Option(help="Which scorer.")] = "detection",
    explanation: Annotated[
        str | None, typer.Option(help="Only this explanation, by its id.")
    ] = None,
    half_width: Annotated[
        float | None,
        typer.Option(help="Stop judging a feature once half its interval is this narrow."),
    ] = None,
    budget: Budget = None,
    concurrency: Concurrency = None,
    batch: Batch = False,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    watch: Watch = True,
    as_json: JsonFlag = False,
) -> None:
    """Score the newest explanations of an SAE on held-out documents: of the features given, or all.

    Example: monosemy score demo --scorer fuzzing --half-width 0.1
    """
    scoring = _given(scorer=scorer, half_width=half_width)
    scoring["judge"] = _given(budget=budget, concurrency=concurrency, batch=batch or None)
    spec = {
        "kind": "score",
        "sae": sae,
        "dry_run": dry_run,
        "scoring": scoring,
        **_given(features=list(features) if features else None, explanation=explanation),
    }
    _submit(spec, overrides, watch, as_json)


@readable_errors
def spend(
    by: Annotated[
        str, typer.Option(help="Sum over: run, feature, purpose, model, key or day.")
    ] = "run",
    run: Annotated[str | None, typer.Option(help="Only this run, or pipeline.")] = None,
    sae: Annotated[str | None, typer.Option(help="Only runs over this SAE.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what the judge was asked and what that cost, from the ledger.

    Example: monosemy spend --by purpose --sae demo
    """
    table = connect().get("/spend", by=by, run=run, sae=sae)
    if as_json:
        print_json(table)
        return
    rows = [_spend_row(item) for item in table["items"]]
    rows.append(_spend_row({**table["total"], "group": "all"}))
    columns = (by, "calls", "answered", "failed", "unknown", "in", "cached", "out", "cost")
    print_table(columns, rows)


@readable_errors
def report(
    sae: SaeArgument,
    to: Annotated[Path, typer.Option(help="File for the page.")] = Path("report.html"),
    reference: Annotated[
        str | None, typer.Option(help="An SAE to compare with, such as one with random weights.")
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            help="Hold its scores against those of this SAE or basis instead; up to 3 times."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a page of plots about an SAE's scores: distributions beside baselines, agreement
    between scorers, labels that features share.

    Example: monosemy report demo --to demo.html
    """
    path = f"/saes/{segment(sae)}/report"
    client = connect()
    if beside:
        if reference is not None:
            fail("--reference and --beside are two reports: ask for one of them.", USAGE)
        show_beside(client, sae, beside, to, as_json)
        return
    if as_json:
        print_json(client.get(path, reference=reference))
        return
    to.write_text(client.text(f"{path}/page", reference=reference), encoding="utf-8")
    say(f"Written to {to}")


@app.command("list")
@readable_errors
def list_(sae: SaeArgument, index: FeatureArgument, as_json: JsonFlag = False) -> None:
    """List a feature's explanations with their scores, the newest first.

    Example: monosemy explanation list demo 42
    """
    page = connect().get(_of(sae, index), limit=200)
    if as_json:
        print_json(page)
        return
    for explanation in page["items"]:
        votes = f"+{explanation['votes']['up']} -{explanation['votes']['down']}"
        head = f"[bold]{plain(explanation['label'])}[/]  [dim]{explanation['id']}[/]"
        out.print(head, highlight=False, soft_wrap=True)
        out.print(plain(explanation["text"]), highlight=False, soft_wrap=True)
        who = " ".join(part for part in (explanation["explainer"], explanation["judge"]) if part)
        out.print(f"  [dim]{plain(who)}, votes {votes}[/]", highlight=False)
        for each in explanation["scores"]:
            out.print(f"  {plain(score_text(each))}", highlight=False, soft_wrap=True)


@app.command()
@readable_errors
def add(
    sae: SaeArgument,
    index: FeatureArgument,
    text: Annotated[str, typer.Argument(help="What the feature stands for.")],
    label: Annotated[str | None, typer.Option(help="The same in a few words.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Store your own explanation of a feature; 'monosemy score' then scores it like any other.

    Example: monosemy explanation add demo 42 "Names of kings of France" --label kings
    """
    stored = connect().post(_of(sae, index), _given(text=text, label=label))
    if as_json:
        print_json(stored)
    else:
        out.print(stored["id"], highlight=False)


@app.command()
@readable_errors
def vote(
    explanation: ExplanationId,
    value: Annotated[int, typer.Argument(min=-1, max=1, help="1, -1, or 0 to take it back.")],
    as_json: JsonFlag = False,
) -> None:
    """Vote on an explanation.

    Example: monosemy explanation vote 6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11 -- -1
    """
    votes = connect().put(f"/explanations/{segment(explanation)}/vote", {"value": value})
    if as_json:
        print_json(votes)
    else:
        out.print(f"+{votes['up']} -{votes['down']}", highlight=False)


@app.command()
@readable_errors
def nearest(
    explanation: ExplanationId,
    sae: Annotated[str | None, typer.Option(help="Only of this SAE.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 10,
    as_json: JsonFlag = False,
) -> None:
    """List the explanations that mean nearly the same.

    Example: monosemy explanation nearest 6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11
    """
    path = f"/explanations/{segment(explanation)}/nearest"
    answer = connect().get(path, sae=sae, limit=limit)
    if as_json:
        print_json(answer)
        return
    rows = [
        (f"{item['similarity']:.3f}", item["sae"], item["feature"], item["label"], item["text"])
        for item in answer["items"]
    ]
    print_table(("cosine", "SAE", "feature", "label", "explanation"), rows)


@app.command()
@readable_errors
def delete(explanation: ExplanationId) -> None:
    """Delete an explanation with its scores.

    Example: monosemy explanation delete 6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11
    """
    connect().delete(f"/explanations/{segment(explanation)}")


def _submit(spec: dict[str, Any], overrides: list[str] | None, watch: bool, as_json: bool) -> None:
    spec = apply_overrides(spec, overrides or [])
    parse_spec(spec)  # says at once, and with the same words, what the API would say
    client: Client = connect()
    run = submitted(client, spec)
    if watch:
        say(f"run {run['id']}")
        follow(client, run["id"], as_json)
        if spec["dry_run"] and not as_json:
            result = client.get(f"/runs/{segment(run['id'])}")["result"]
            out.print(result["summary"], highlight=False, soft_wrap=True)
    elif as_json:
        print_json(run)
    else:
        out.print(run["id"], highlight=False)


def _of(sae: str, index: int) -> str:
    return f"/saes/{segment(sae)}/features/{index}/explanations"


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _spend_row(item: dict[str, Any]) -> tuple[Any, ...]:
    names = ("calls", "answered", "failed", "unknown")
    tokens = ("prompt_tokens", "cached_tokens", "completion_tokens")
    return (
        " ".join(part for part in (item["group"] or "gone", item["name"]) if part),
        *(item[each] for each in names),
        *(f"{item[each]:,}" for each in tokens),
        number(item["cost"], ",.4f"),
    )
