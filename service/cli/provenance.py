"""``monosemy feature judgements`` and ``explanation provenance``: what stands behind words and
scores."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from monosemy.figures import plural
from service.cli.client import segment
from service.cli.connect import connect
from service.cli.explanations import ExplanationId
from service.cli.output import JsonFlag, number, print_json, print_table, readable_errors, say, tell
from service.cli.saes import SaeArgument


@readable_errors
def judgements(
    sae: SaeArgument,
    index: Annotated[int, typer.Argument(min=0, help="Index of the feature.")],
    score: Annotated[str, typer.Argument(metavar="SCORE", help="Id of the score.")],
    outcome: Annotated[
        Literal["right", "wrong", "failed"] | None, typer.Option(help="Only these.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List the single judgements of a score: each text, what is so and what was answered.

    'monosemy feature show SAE INDEX --json' has the ids of scores.

    Example: monosemy feature judgements demo 42 6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11
    """
    path = f"/saes/{segment(sae)}/features/{index}/scores/{segment(score)}/judgements"
    page = connect().get(path, outcome=outcome, limit=limit)
    if as_json:
        print_json(page)
        return
    print_table(
        ("", "text is", "truth", "answer", "text"), [_judged(each) for each in page["items"]]
    )
    say(f"{plural(page['n'], 'judgement')} of use, {page['n_failed']} failed.")
    if page["next_cursor"]:
        say("There are more; raise --limit or name an --outcome.")


def _judged(each: dict[str, Any]) -> tuple[Any, ...]:
    stratum = "" if each["stratum"] is None else f", stratum {each['stratum']}"
    answer = {True: "yes", False: "no", None: number(each["value"], ".3g")}[each["answer"]]
    return (
        each["number"],
        each["tier"] + stratum,
        "fires" if each["truth"] else "silent",
        "failed" if each["failed"] else answer,
        _marked(each["text"]),
    )


def _marked(window: dict[str, Any]) -> str:
    """The text on one line, its focus between ``<<`` and ``>>``."""
    words = [
        f"<<{token}>>" if place == window["focus"] else token
        for place, token in enumerate(window["tokens"])
    ]
    return "".join(words).replace("\n", "↵") or "(the text is not stored here)"


@readable_errors
def provenance(explanation: ExplanationId, as_json: JsonFlag = False) -> None:
    """Show where an explanation is from: prompt, judge, texts, index, SAE, host model, text.

    Example: monosemy explanation provenance 6f2c0d2e-4c0e-4f0b-9c59-0d6a1c0f7e11
    """
    behind = connect().get(f"/explanations/{segment(explanation)}/provenance")
    if as_json:
        print_json(behind)
        return
    prompt, judge, index = behind["prompt"], behind["judge"] or {}, behind["index"] or {}
    rows = [
        ("explanation", behind["explanation"]["text"]),
        (
            "prompt",
            f"{prompt['name']} v{prompt['version']} ({prompt['hash']})" if prompt else "none",
        ),
        ("judge", ", ".join(str(judge[name]) for name in ("model", "address") if judge.get(name))),
        ("texts shown", len(behind["examples"])),
        ("index", f"{number(index.get('tokens'), ',')} tokens of {index.get('text_id')}"),
        ("SAE", f"{behind['sae']} ({behind['weights']})"),
        ("host model", f"{behind['model']} ({behind['model_fingerprint']})"),
        ("text", ", ".join(f"{name} {value}" for name, value in behind["text"].items())),
    ]
    print_table(("", ""), rows)
    linked = [
        (link["what"], link["here"], link["there"], "equal" if _equal(link) else "DIFFERENT")
        for link in behind["links"]
    ]
    print_table(("digest of", "as noted", "as it is now", ""), linked)
    for example in behind["examples"]:
        tell(f"{example['id']} ({example['group']}): {_marked(example['text'])}")


def _equal(link: dict[str, Any]) -> bool:
    return link["here"] is not None and link["here"] == link["there"]
