"""Neuronpedia's v1 export layout: ``features/``, ``activations/`` and ``explanations/``, each with
``batch-N.jsonl.gz``, of one model and source."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from monosemy.errors import DataError
from monosemy.interchange.files import (
    feature_index,
    is_plain,
    list_of,
    number_of,
    read_lines,
    text_of,
    write_lines,
)
from monosemy.interchange.records import ExampleRecord, ExplanationRecord, FeatureRecord

PER_BATCH = 128
"""Features in a file, as its own converter writes them."""
_BATCH = re.compile(r"batch-(0|[1-9][0-9]{0,6})\.jsonl(\.gz)?")
_TOP = -1
_NAMESPACE = uuid.UUID("4f9ee0f0-6a0e-4a1f-9f1b-0d3b5b6c2f6d")
_NOT_KEPT = (
    "neuron_alignment_indices",
    "neuron_alignment_values",
    "neuron_alignment_l1",
    "correlated_neurons_indices",
    "correlated_neurons_pearson",
    "correlated_neurons_l1",
    "correlated_features_indices",
    "correlated_features_pearson",
    "correlated_features_l1",
    "freq_hist_data_bar_heights",
    "freq_hist_data_bar_values",
    "logits_hist_data_bar_heights",
    "logits_hist_data_bar_values",
    "decoder_weights_dist",
    "topkCosSimIndices",
    "topkCosSimValues",
    "vector",
)
"""Fields of a feature that its importer wants there; we leave them empty."""


def export_neuronpedia(
    folder: str | Path,
    records: Iterable[FeatureRecord],
    model: str,
    source: str,
    creator: str = "",
    now: dt.datetime | None = None,
) -> int:
    """Writes batches of ``PER_BATCH`` records; how many records there were.

    ``model`` and ``source`` are Neuronpedia's ids, such as ``gpt2-small`` and ``9-res-jb``;
    ``creator`` the id of the account that is to own the rows.
    """
    created = (now or dt.datetime.now(dt.UTC)).isoformat()
    shared = {"modelId": model, "layer": source, "creatorId": creator, "createdAt": created}
    root, waiting, number, count = Path(folder), iter(records), 0, 0
    while batch := list(islice(waiting, PER_BATCH)):
        name = f"batch-{number}.jsonl.gz"
        write_lines(root / "features" / name, (_feature_out(each, shared) for each in batch))
        write_lines(
            root / "activations" / name,
            (row for each in batch for row in _activations_out(each, shared)),
        )
        write_lines(
            root / "explanations" / name,
            (row for each in batch for row in _explanations_out(each, shared)),
        )
        number += 1
        count += len(batch)
    return count


def import_neuronpedia(folder: str | Path) -> Iterator[FeatureRecord]:
    """Records batch by batch: a feature's rows are taken together within a batch of one number.

    Raises ``DataError`` for a folder without batches and for rows of another form.
    """
    root = Path(folder)
    numbers = sorted(
        {
            int(match[1])
            for kind in ("features", "activations", "explanations")
            if (root / kind).is_dir()
            for path in (root / kind).iterdir()
            if (match := _BATCH.fullmatch(path.name)) and is_plain(path)
        }
    )
    if not numbers:
        raise DataError(
            f"{root} holds no batches of Neuronpedia's.",
            "Give the folder of one source, the one that holds 'features' and 'explanations'.",
        )
    for number in numbers:
        yield from _batch(root, number)


def _batch(root: Path, number: int) -> Iterator[FeatureRecord]:
    features: dict[int, dict[str, Any]] = {}
    explanations: dict[int, list[ExplanationRecord]] = {}
    seen: dict[int, list[ExampleRecord]] = {}
    for where, row in _rows(root, "features", number):
        features[feature_index(row.get("index"), where)] = _feature(row, where)
    for where, row in _rows(root, "explanations", number):
        text = text_of(row.get("description"), where, "description")
        explanation = ExplanationRecord(
            text,
            author=text_of(row.get("explanationModelName") or "", where, "explanationModelName"),
            method=text_of(row.get("typeName") or "", where, "typeName"),
        )
        explanations.setdefault(feature_index(row.get("index"), where), []).append(explanation)
    for where, row in _rows(root, "activations", number):
        seen.setdefault(feature_index(row.get("index"), where), []).append(_example(row, where))
    for feature in sorted({*features, *explanations, *seen}):
        yield FeatureRecord(
            feature,
            **features.get(feature, {}),
            explanations=tuple(explanations.get(feature, ())),
            examples=tuple(seen.get(feature, ())),
        )


def _rows(root: Path, kind: str, number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in (f"batch-{number}.jsonl.gz", f"batch-{number}.jsonl"):
        if is_plain(root / kind / name):
            for where, row in read_lines(root / kind / name):
                yield f"{kind}/{where}", row
            return


# -------------------------------------------------------------------- one row each
def _feature_out(record: FeatureRecord, shared: dict[str, Any]) -> dict[str, Any]:
    return {
        **shared,
        "index": str(record.feature),
        "maxActApprox": record.max_activation,
        "frac_nonzero": record.density,
        "pos_str": [token for token, _ in record.promoted],
        "pos_values": [value for _, value in record.promoted],
        "neg_str": [token for token, _ in record.suppressed],
        "neg_values": [value for _, value in record.suppressed],
        "hasVector": False,
        "vectorLabel": None,
        "hookName": None,
        **{name: [] for name in _NOT_KEPT},
    }


def _activations_out(record: FeatureRecord, shared: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number, example in enumerate(record.examples):
        values = list(example.activations)
        quantile = _TOP if example.quantile is None else example.quantile
        yield {
            **shared,
            "id": _id(shared, record.feature, "activation", number),
            "index": str(record.feature),
            "tokens": list(example.tokens),
            "values": values,
            "maxValue": max(values, default=0.0),
            "maxValueTokenIndex": values.index(max(values)) if values else 0,
            "minValue": min(values, default=0.0),
            "binMin": quantile,
            "binMax": quantile,
            "binContains": quantile,
            "qualifyingTokenIndex": example.focus,
            "dfaValues": [],
            "dfaTargetIndex": None,
            "dfaMaxValue": None,
            "lossValues": [],
            "logitContributions": None,
            "dataIndex": None,
            "dataSource": None,
        }


def _explanations_out(record: FeatureRecord, shared: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number, explanation in enumerate(record.explanations):
        yield {
            **shared,
            "id": _id(shared, record.feature, "explanation", number),
            "index": str(record.feature),
            "description": explanation.text,
            "authorId": shared["creatorId"],
            "typeName": explanation.method or None,
            "explanationModelName": explanation.author or None,
            "triggeredByUserId": None,
            "notes": None,
        }


def _id(shared: dict[str, Any], feature: int, kind: str, number: int) -> str:
    """The same for the same row, so that a second import adds nothing."""
    name = f"{shared['modelId']}/{shared['layer']}/{feature}/{kind}/{number}"
    return uuid.uuid5(_NAMESPACE, name).hex


def _feature(row: dict[str, Any], where: str) -> dict[str, Any]:
    return {
        "density": number_of(row.get("frac_nonzero") or 0.0, where, "frac_nonzero"),
        "max_activation": number_of(row.get("maxActApprox") or 0.0, where, "maxActApprox"),
        "promoted": _effects(row, "pos", where),
        "suppressed": _effects(row, "neg", where),
    }


def _effects(row: dict[str, Any], sign: str, where: str) -> tuple[tuple[str, float], ...]:
    tokens = list_of(row.get(f"{sign}_str") or [], where, f"{sign}_str")
    values = list_of(row.get(f"{sign}_values") or [], where, f"{sign}_values")
    if len(tokens) != len(values):
        raise DataError(f"{where}: {sign}_str and {sign}_values differ in length.")
    return tuple(
        (text_of(token, where, f"{sign}_str"), number_of(value, where, f"{sign}_values"))
        for token, value in zip(tokens, values, strict=True)
    )


def _example(row: dict[str, Any], where: str) -> ExampleRecord:
    tokens = _texts(list_of(row.get("tokens"), where, "tokens"), where)
    values = list_of(row.get("values"), where, "values")
    if len(tokens) != len(values):
        raise DataError(f"{where}: tokens and values differ in length.")
    numbers = tuple(number_of(value, where, "values") for value in values)
    focus = row.get("qualifyingTokenIndex")
    if not isinstance(focus, int) or not 0 <= focus < len(tokens):
        focus = numbers.index(max(numbers)) if numbers else 0
    quantile = row.get("binContains")
    top = not isinstance(quantile, int) or isinstance(quantile, bool) or quantile < 0
    return ExampleRecord(tokens, numbers, focus, None if top else quantile)


def _texts(values: Sequence[Any], where: str) -> tuple[str, ...]:
    return tuple(text_of(value, where, "a token") for value in values)
