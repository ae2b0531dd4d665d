"""``monosemy labels export`` and ``import``: explanations, scores and examples of other tools."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from monosemy.console import reporting
from monosemy.interchange.delphi import export_delphi, import_delphi
from monosemy.interchange.neuronpedia import export_neuronpedia, import_neuronpedia
from monosemy.interchange.records import (
    ExampleRecord,
    ExplanationRecord,
    FeatureRecord,
    JudgedRecord,
    ScoreRecord,
)
from monosemy.progress import Stage
from service.cli.client import Client, segment
from service.cli.connect import connect
from service.cli.output import fail, readable_errors, say
from service.cli.saes import SaeArgument

app = typer.Typer(no_args_is_help=True, help="Exchange explanations with other tools.")

_LONGEST_TEXT, _LONGEST_LABEL = 2000, 200
_MOST_JUDGEMENTS = 5000


class Layout(StrEnum):
    """Layouts of other tools."""

    delphi = "delphi"
    neuronpedia = "neuronpedia"


@app.command("export")
@readable_errors
def export(
    sae: SaeArgument,
    to: Annotated[Path, typer.Option(help="Folder to write to; it must not hold files yet.")],
    layout: Annotated[Layout, typer.Option("--format", help="Whose layout.")],
    all_features: Annotated[
        bool, typer.Option("--all", help="Also features without an explanation (neuronpedia).")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Neuronpedia's id of the model; ours by default.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Neuronpedia's id of the source, or delphi's hookpoint.")
    ] = None,
) -> None:
    """Write an SAE's explanations in another tool's layout.

    delphi: explanations and the yes-or-no judgements of detection and fuzzing, without the texts
    judged.  neuronpedia: v1 batches of features, activations and explanations.

    Example: monosemy labels export demo --format neuronpedia --to out --source 9-res-demo
    """
    if to.exists() and any(to.iterdir()):
        fail(f"{to} holds files already; name a new folder.")
    client = connect()
    about = client.get(f"/saes/{segment(sae)}")
    explained = None if all_features and layout is Layout.neuronpedia else True
    total = about["features"]["explained" if explained else "indexed"]
    with reporting(None) as shown, shown.stage("export", total, "features") as stage:
        records = _records(client, sae, explained, stage)
        if layout is Layout.delphi:
            count = export_delphi(to, records, source or about["site"])
        else:
            named = source or about["name"]
            count = export_neuronpedia(to, records, model or about["model"]["name"], named)
    say(f"{count:,} features written to {to}")


@app.command("import")
@readable_errors
def import_(
    sae: SaeArgument,
    source: Annotated[Path, typer.Option("--from", help="Folder to read.")],
    layout: Annotated[Layout, typer.Option("--format", help="Whose layout.")],
    module: Annotated[
        str | None, typer.Option(help="delphi's hookpoint, where there are several.")
    ] = None,
) -> None:
    """Take in explanations of another tool, for the features of the same indices.

    They are stored as given by a person, cut to 2,000 characters; what is there already is not
    stored again, so an import that broke off can be made again.  delphi's judgements by detection
    and fuzzing come with them, as scores 'detection:delphi' and 'fuzzing:delphi'.

    Example: monosemy labels import demo --format delphi --from results/run
    """
    client = connect()
    about = client.get(f"/saes/{segment(sae)}")
    found = import_delphi(source, module) if layout is Layout.delphi else import_neuronpedia(source)
    taken = left_out = scores = 0
    with reporting(None) as shown, shown.stage("import", None, "features") as stage:
        for record in found:
            stage.advance(1)
            if record.feature >= about["d_sae"]:
                fail(f"The SAE has {about['d_sae']:,} features, so none is {record.feature:,}.")
            for said in record.explanations:
                text = " ".join(said.text.split())[:_LONGEST_TEXT]
                if not text:
                    left_out += 1
                    continue
                path = f"/saes/{segment(sae)}/features/{record.feature}/explanations"
                stored = client.post(path, {"text": text, "label": text[:_LONGEST_LABEL]})
                taken += 1
                for score in said.scores:
                    if score.judged:
                        given = _given(score, layout.value)
                        client.post(f"/explanations/{stored['id']}/scores", given)
                        scores += 1
    with_scores = f" with {scores:,} scores" if scores else ""
    empty = f", {left_out:,} empty ones not" if left_out else ""
    say(f"{taken:,} explanations taken in{with_scores}{empty}")


def _given(score: ScoreRecord, source: str) -> dict[str, Any]:
    judged = [
        {
            "activating": each.activating,
            "answer": each.answer,
            "stratum": each.stratum - 1 if each.activating and each.stratum > 0 else None,
        }
        for each in score.judged
    ]
    return {"scorer": score.scorer, "source": source, "judgements": judged[:_MOST_JUDGEMENTS]}


def _records(
    client: Client, sae: str, explained: bool | None, stage: Stage
) -> Iterator[FeatureRecord]:
    """Feature by feature, page by page."""
    cursor: str | None = None
    while True:
        page = client.get(
            f"/saes/{segment(sae)}/features", limit=200, cursor=cursor, has_explanation=explained
        )
        for item in page["items"]:
            yield _record(client.get(f"/saes/{segment(sae)}/features/{item['index']}"))
            stage.advance(1)
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _record(page: dict[str, Any]) -> FeatureRecord:
    effects = {
        name: tuple((each["text"], each["effect"]) for each in page["evidence"][name])
        for name in ("promoted", "suppressed")
    }
    examples = tuple(
        ExampleRecord(
            tuple(example["tokens"]),
            tuple(example["activations"]),
            example["focus"],
            None if example["group"] == "top" else int(example["group"][1:]),
        )
        for example in page["examples"]
    )
    return FeatureRecord(
        page["index"],
        page["density"],
        page["max_activation"],
        effects["promoted"],
        effects["suppressed"],
        tuple(_explanation(said) for said in page["explanations"]),
        examples,
    )


def _explanation(said: dict[str, Any]) -> ExplanationRecord:
    scores: dict[str, ScoreRecord] = {}
    for score in said["scores"]:
        judgements = score["details"].get("judgements") or []
        judged = tuple(
            JudgedRecord(
                each["truth"], each["answer"], _stratum(each["group"]) if each["truth"] else -1
            )
            for each in judgements
            if "value" not in each and "simulated" not in each
        )
        if judged:
            # Ours and another tool's are one there: the newest goes.
            scorer = score["scorer"].partition(":")[0]
            scores.setdefault(scorer, ScoreRecord(scorer, judged))
    return ExplanationRecord(said["text"], said["judge"], said["explainer"], tuple(scores.values()))


def _stratum(group: str | int) -> int:
    """delphi's count from 1; -1 for what is in none."""
    return int(group) + 1 if str(group).isdecimal() else -1
