"""``monosemy labels export`` and ``import``: explanations, scores and examples of other tools."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from monosemy.console import reporting
from monosemy.half_written import faults_naming
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
from service.database.storable import storable_text

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
    layout: Annotated[Layout, typer.Option("--format", help="The other tool.")],
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
    if not total:
        missing = "explanations: explain its features first" if explained else "index"
        fail(f"'{about['name']}' has no {missing}. Nothing is written.")
    with (
        _whole(to) as folder,
        reporting(None) as progress,
        progress.stage("export", total, "features") as stage,
    ):
        records = _records(client, sae, explained, stage)
        if layout is Layout.delphi:
            count = export_delphi(folder, records, source or about["site"])
        else:
            named = source or about["name"]
            count = export_neuronpedia(folder, records, model or about["model"]["name"], named)
    say(f"{count:,} features written to {to}")


@app.command("import")
@readable_errors
def import_(
    sae: SaeArgument,
    source: Annotated[Path, typer.Option("--from", help="Folder to read.")],
    layout: Annotated[Layout, typer.Option("--format", help="The other tool.")],
    module: Annotated[
        str | None, typer.Option(help="delphi's hookpoint, where there are several.")
    ] = None,
) -> None:
    """Import another tool's explanations, by feature index.

    The whole folder is checked first: if it does not fit, it is refused and nothing is stored.
    Explanations are stored as given by a person, cut to 2,000 characters; NUL and halves of
    surrogate pairs are replaced.  What is stored already is skipped, so an interrupted import can
    be repeated.  delphi's judgements by detection and fuzzing are imported too, as the scores
    'detection:delphi' and 'fuzzing:delphi'.

    Example: monosemy labels import demo --format delphi --from results/run
    """
    client = connect()
    about = client.get(f"/saes/{segment(sae)}")
    contents = _look(_read(source, layout, module), about)
    with (
        reporting(None) as progress,
        progress.stage("import", contents.features, "features") as stage,
    ):
        for record in _read(source, layout, module):
            stage.advance(1)
            for explanation in record.explanations:
                if text := _storable(explanation):
                    _store(client, about["id"], record.feature, text, explanation, layout)
    with_scores = f" with {contents.scores:,} scores" if contents.scores else ""
    empty = f", {contents.empty:,} empty ones not" if contents.empty else ""
    say(f"{contents.explanations:,} explanations imported{with_scores}{empty}")


@dataclass
class _Contents:
    """What a folder holds."""

    features: int = 0
    explanations: int = 0
    empty: int = 0
    scores: int = 0
    surplus: list[int] = field(default_factory=list)
    """Features with explanations that the SAE has not."""


def _read(source: Path, layout: Layout, module: str | None) -> Iterator[FeatureRecord]:
    return import_delphi(source, module) if layout is Layout.delphi else import_neuronpedia(source)


def _look(records: Iterable[FeatureRecord], about: dict[str, Any]) -> _Contents:
    """Goes through everything once, so that nothing is stored of a folder that does not fit."""
    contents = _Contents()
    for record in records:
        contents.features += 1
        texts = [bool(_storable(explanation)) for explanation in record.explanations]
        contents.explanations += sum(texts)
        contents.empty += len(texts) - sum(texts)
        contents.scores += sum(
            bool(score.judged)
            for explanation, text in zip(record.explanations, texts, strict=True)
            for score in explanation.scores
            if text
        )
        if record.feature >= about["d_sae"]:
            contents.surplus.append(record.feature)
    if contents.surplus:
        first = ", ".join(f"{feature:,}" for feature in contents.surplus[:3])
        more = ", ..." if len(contents.surplus) > 3 else ""
        fail(
            f"The SAE has {about['d_sae']:,} features, so none is {first}{more}: "
            f"{len(contents.surplus):,} of the folder's {contents.features:,} do not exist. "
            "Nothing is taken in; is it a folder of this SAE?"
        )
    if not contents.explanations:
        empty = f", but {contents.empty:,} empty ones" if contents.empty else ""
        fail(f"The folder holds no explanation{empty}: there is nothing to take in.")
    if not about["features"]["indexed"]:
        fail(f"'{about['name']}' has no index, so no features to explain. Submit an index run.")
    return contents


def _storable(explanation: ExplanationRecord) -> str:
    """On one line, cut, and without what a database does not store."""
    return storable_text(" ".join(explanation.text.split())[:_LONGEST_TEXT]).strip()


def _store(
    client: Client,
    sae: str,
    feature: int,
    text: str,
    explanation: ExplanationRecord,
    layout: Layout,
) -> None:
    path = f"/saes/{segment(sae)}/features/{feature}/explanations"
    stored = client.post(path, {"text": text, "label": text[:_LONGEST_LABEL]})
    for score in explanation.scores:
        if score.judged:
            body = _given(score, layout.value)
            client.post(f"/explanations/{stored['id']}/scores", body)


@contextmanager
def _whole(to: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``to`` once all is written; removed if it is not."""
    to = to.absolute()
    half = to.with_name(f".{to.name}.{os.getpid()}.part")
    try:
        with faults_naming(to, half):
            half.mkdir(parents=True)
            yield half
            if to.exists():
                to.rmdir()  # it is empty
            half.rename(to)
    finally:
        shutil.rmtree(half, ignore_errors=True)


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
        tuple(_explanation(explanation) for explanation in page["explanations"]),
        examples,
    )


def _explanation(explanation: dict[str, Any]) -> ExplanationRecord:
    scores: dict[str, ScoreRecord] = {}
    for score in explanation["scores"]:
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
    return ExplanationRecord(
        explanation["text"], explanation["judge"], explanation["explainer"], tuple(scores.values())
    )


def _stratum(group: str | int) -> int:
    """delphi's count from 1; -1 for what is in none."""
    return int(group) + 1 if str(group).isdecimal() else -1
