"""``monosemy concept``: features by which texts are told, and written without."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from monosemy.figures import plural
from service.cli.client import segment
from service.cli.connect import connect
from service.cli.following import run_and_show
from service.cli.output import (
    JsonFlag,
    estimate,
    print_json,
    print_table,
    printable,
    readable_errors,
    tell,
)
from service.cli.texts import text_lines

app = typer.Typer(no_args_is_help=True, help="Find concepts, look at them, delete them.")

ConceptArgument = Annotated[str, typer.Argument(help="Name or id of the concept.")]


@app.command()
@readable_errors
def find(
    name: Annotated[str, typer.Argument(help="Of the concept.")],
    sae: Annotated[str, typer.Argument(help="Id or name of an SAE.")],
    targets: Annotated[Path, typer.Option(help="Texts that the concept is in, one a line.")],
    retain: Annotated[Path, typer.Option(help="Texts that it is not in, one a line.")],
    paraphrases: Annotated[
        Path | None, typer.Option(help="Targets in other words, one a line; tested on alone.")
    ] = None,
    embeddings: Annotated[
        bool, typer.Option(help="Measure what becomes of texts' embeddings, by whole forwards.")
    ] = True,
    called: Annotated[
        str | None, typer.Option(help="What it is called, as a text; left out: NAME.")
    ] = None,
    other: Annotated[
        list[str] | None, typer.Option(help="What else texts are about; may be given again.")
    ] = None,
    word: Annotated[
        str | None, typer.Option(help="By which what is kept is probed; left out: one is chosen.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Strongest features of a text that count.")
    ] = None,
    rule: Annotated[
        str | None, typer.Option(help="How features are chosen: difference or share.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="What the features are multiplied by: 0, or below.")
    ] = None,
    keep_error: Annotated[
        bool, typer.Option(help="Keep what the SAE does not reconstruct.")
    ] = True,
    score: Annotated[str | None, typer.Option(help="removed or error.")] = None,
    false_alarms: Annotated[
        float | None, typer.Option(help="Share of texts without it that may be flagged.")
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="How sure that is to be; left out: on average.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of which text is used for what.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Find a concept in texts, and test it on texts that chose nothing.

    Example: monosemy concept find whales demo --targets whales.txt --retain others.txt
    """
    spec: dict[str, Any] = {"kind": "concept", "name": name, "sae": sae, "seed": seed}
    spec |= {"targets": text_lines(targets), "retain": text_lines(retain), "keep_error": keep_error}
    spec |= {} if embeddings else {"embeddings": False}
    given = {
        "paraphrases": None if paraphrases is None else text_lines(paraphrases),
        "called": called,
        "others": other or None,
        "word": word,
        "top_k": top_k,
        "rule": rule,
        "scale": scale,
        "score": score,
        "false_alarms": false_alarms,
        "confidence": confidence,
    }
    spec |= {key: value for key, value in given.items() if value is not None}
    run_and_show(spec, "/concepts/{run}", _show, as_json)


@app.command("list")
@readable_errors
def list_(
    sae: Annotated[str | None, typer.Option(help="Only those of this SAE.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List concepts, newest first.

    Example: monosemy concept list --sae demo
    """
    page = connect().get("/concepts", sae=sae)
    if as_json:
        print_json(page)
        return
    rows = [
        (
            printable(each["name"]),
            printable(each["sae"]),
            each["features"],
            f"{each['scale']:g}",
            *(estimate(each[key]) for key in ("area", "found", "false_alarms")),
        )
        for each in page["items"]
    ]
    print_table(("concept", "SAE", "features", "scale", "area", "found", "false alarms"), rows)


@app.command()
@readable_errors
def show(concept: ConceptArgument, as_json: JsonFlag = False) -> None:
    """Show a concept: its features, and how well it tells and erases.

    Example: monosemy concept show whales
    """
    found = connect().get(f"/concepts/{segment(concept)}")
    if as_json:
        print_json(found)
        return
    _show(found)


@app.command()
@readable_errors
def delete(concept: ConceptArgument) -> None:
    """Delete a concept; its run and the SAE stay.

    Example: monosemy concept delete whales
    """
    connect().delete(f"/concepts/{segment(concept)}")
    tell(f"Deleted the concept {printable(concept)}.")


def _show(found: dict[str, Any]) -> None:
    concept, threshold, texts = found["concept"], found["threshold"], found["texts"]
    sure = (
        "on average"
        if threshold["confidence"] is None
        else f"with a confidence of {threshold['confidence']:.0%}"
    )
    tell(
        f"{printable(found['name'])} of {printable(found['sae'])}: {len(concept['features']):,}"
        f" features by the rule {found['rule']} ({found['shared']:,} more of the targets are not"
        " chosen), scale"
        f" {concept['scale']:g}. Flagged above {concept['threshold']:.4g}: at most"
        f" {threshold['wanted']:.2%} false alarms {sure}, by"
        f" {plural(threshold['texts'], 'retain text')}"
        f" ({threshold['least']:,} are the least; with a confidence of 95 % at most"
        f" {threshold['bound']:.1%})."
    )
    tell(
        f"{plural(texts['fit_targets'], 'target')} and {plural(texts['fit_retain'], 'retain text')}"
        " chose features;"
        f" {texts['test_targets']:,} and {texts['test_retain']:,} are tested on."
        + _by_chance(threshold)
    )
    rows = [
        (
            each["name"],
            "-" if each["features"] is None else each["features"],
            *(
                estimate(each[key])
                for key in ("area", "found", "false_alarms", "misspelt", "paraphrases")
            ),
        )
        for each in found["detectors"]
    ]
    heads = ("told by", "features", "area", "found", "false alarms", "misspelt", "paraphrases")
    print_table(heads, rows, title="telling texts")
    erased = [
        (
            each["name"],
            "-" if each["features"] is None else each["features"],
            estimate(each["linear"]),
            estimate(each["nonlinear"]),
            f"{each['change_targets']:.3f}",
            f"{each['change_retain']:.3f}",
        )
        for each in found["erasers"]
    ]
    after = ("after", "features", "linear probe", "radial probe", "changes targets", "others")
    print_table(after, erased, title="erasing (every text changed, flagged or not)")
    if found["embeddings"] is not None:
        _show_embeddings(found["embeddings"])
    features = [
        (
            each["index"],
            each["targets"],
            "-" if each["retain"] is None else each["retain"],
            f"{each['maximum']:.2f}",
            f"{each['test_targets']:.0%}",
            f"{each['test_retain']:.0%}",
        )
        for each in found["features"][:20]
    ]
    columns = ("feature", "targets", "retain", "maximum", "fires in test targets", "in test retain")
    first = "of most targets" if found["rule"] == "difference" else "of the highest correlation"
    print_table(columns, features, title=f"features {first}")


def _by_chance(threshold: dict[str, Any]) -> str:
    """What the test of false alarms may show though the threshold holds."""
    most = threshold.get("by_chance")
    if most is None:
        return ""
    return f" In 95 of 100 splits up to {most:.1%} of the latter are flagged by chance alone."


def _show_embeddings(found: dict[str, Any]) -> None:
    embedding = (
        "pooled by the text encoder"
        if found["embedding"] == "pooled"
        else "the mean of the last stream"
    )
    tell(
        f"Embeddings ({embedding}, {found['width']:,} wide) of {found['flagged_targets']:,} flagged"
        f" targets of {found['targets']:,}; of {plural(found['retain'], 'retain text')}"
        f" {found['flagged_retain']:,} are flagged. Called '{found['called'][:100]}'; the probe is"
        f" of {'no word' if found['word'] is None else repr(found['word'])}."
    )
    for reason in found["missing"]:
        tell(printable(reason))
    rows = [
        (
            each["name"],
            "-" if each["features"] is None else each["features"],
            *(
                estimate(each[key])
                for key in (
                    *("equal", "cosine", "similarity", "named"),
                    *("probe", "new_probe", "word_probe"),
                )
            ),
        )
        for each in found["changes"]
    ]
    heads = (
        *("after", "features", "unflagged equal", "cosine to before"),
        *("cosine to name", "nearest to it", "probe", "probe anew", "probe of word"),
    )
    if rows:
        print_table(heads, rows, title="text embeddings")
