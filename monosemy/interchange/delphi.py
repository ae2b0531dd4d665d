"""delphi's results folder: ``explanations/`` and ``scores/<scorer>/``, one file per latent.

As delphi 0.1 writes and reads them: an explanation is a JSON string, a score a list with one object
per example.  Latents' activations (its cache) are not part of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

from monosemy.errors import DataError
from monosemy.interchange.files import (
    feature_index,
    is_plain,
    list_of,
    read_json,
    text_of,
    write_bytes,
)
from monosemy.interchange.records import (
    MOST_FEATURES,
    ExplanationRecord,
    FeatureRecord,
    JudgedRecord,
    ScoreRecord,
)

SCORERS = {"detection": "detection", "fuzz": "fuzzing", "fuzzing": "fuzzing"}
"""delphi's folders of yes-or-no judgements and what we call them; others are not read."""
_NAMES = {"fuzzing": "fuzz"}
_FILE = re.compile(r"(.*)_latent([0-9]{1,9})\.txt")


def export_delphi(folder: str | Path, records: Iterable[FeatureRecord], hookpoint: str) -> int:
    """Writes each record's first explanation with its yes-or-no scores; how many were written.

    ``hookpoint`` names the module in file names, as ``layers.9``; delphi reads no more than one
    explanation per latent.  Raises ``DataError`` for a name that would leave the folder.
    """
    module = hookpoint.replace("/", "--")
    if not re.fullmatch(r"[\w.\-]{1,100}", module) or module.startswith("."):
        raise DataError(f"{hookpoint!r} is no name of a hookpoint.", "Such as layers.9.")
    root, count = Path(folder), 0
    for record in records:
        if not record.explanations:
            continue
        explanation = record.explanations[0]
        name = f"{module}_latent{feature_index(record.feature, 'record')}.txt"
        write_bytes(root / "explanations" / name, json.dumps(explanation.text).encode())
        for score in explanation.scores:
            scorer = _NAMES.get(score.scorer, score.scorer)
            if not re.fullmatch(r"\w{1,50}", scorer):
                raise DataError(f"{scorer!r} is no name of a scorer.")
            rows = json.dumps([_judged_out(each) for each in score.judged])
            write_bytes(root / "scores" / scorer / name, rows.encode())
        count += 1
    return count


def import_delphi(folder: str | Path, module: str | None = None) -> Iterator[FeatureRecord]:
    """Records by module and latent, one at a time; of ``module`` alone where one is given.

    Raises ``DataError`` for a folder without explanations (of ``module``) or with files of another
    form.
    """
    root = Path(folder)
    named = sorted(_latent_files(root / "explanations"))
    if not named:
        raise DataError(
            f"{root / 'explanations'} holds no explanations of delphi's.",
            "Give the run's folder, the one that holds 'explanations' and 'scores'.",
        )
    modules = sorted({hookpoint for hookpoint, _, _ in named})
    if module is not None and module.replace("/", "--") not in modules:
        raise DataError(
            f"The folder holds no explanations of the hookpoint {module!r}.",
            f"It has {', '.join(modules[:8])}.",
        )
    if module is None and len(modules) > 1:
        raise DataError(
            f"The folder holds explanations of {len(modules)} hookpoints.",
            f"Name one: {', '.join(modules[:8])}.",
        )
    scorers = _scorer_folders(root / "scores")
    for hookpoint, feature, path in named:
        if module is not None and hookpoint != module.replace("/", "--"):
            continue
        text = text_of(read_json(path), path.name, "the explanation")
        scores = tuple(
            ScoreRecord(SCORERS[scorer.name], _judged(scorer / path.name))
            for scorer in scorers
            if is_plain(scorer / path.name)
        )
        explanation = ExplanationRecord(text, method="delphi", scores=scores)
        yield FeatureRecord(feature, explanations=(explanation,))


def _latent_files(folder: Path) -> Iterator[tuple[str, int, Path]]:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        match = _FILE.fullmatch(path.name)
        if match and is_plain(path):
            if int(match[2]) >= MOST_FEATURES:
                raise DataError(f"{path.name}: {match[2]} is no feature's index.")
            yield match[1], int(match[2]), path


def _scorer_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    folders = (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    return sorted(path for path in folders if path.name in SCORERS)


def _judged_out(judged: JudgedRecord) -> dict[str, Any]:
    correct = None if judged.answer is None else judged.answer == judged.activating
    return {
        "str_tokens": list(judged.tokens),
        "activations": [],
        "distance": judged.stratum,
        "activating": judged.activating,
        "prediction": judged.answer,
        "probability": None,
        "correct": correct,
    }


def _is_whole(value: Any) -> TypeGuard[int | float]:
    """A whole number, also one that somebody wrote as ``3.0``."""
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def _judged(path: Path) -> tuple[JudgedRecord, ...]:
    judged = []
    for number, row in enumerate(list_of(read_json(path), path.name, "the score"), 1):
        where = f"{path.name}, example {number}"
        if not isinstance(row, dict) or not isinstance(row.get("activating"), bool):
            raise DataError(f"{where} does not say whether it activates.")
        answer = row.get("prediction")
        if answer is not None and not isinstance(answer, bool):
            # Older versions write 0 and 1.
            if answer not in (0, 1):
                raise DataError(f"{where}: the prediction is neither true nor false.")
            answer = bool(answer)
        distance = row.get("distance")
        stratum = int(distance) if row["activating"] and _is_whole(distance) else -1
        tokens = list_of(row.get("str_tokens", []), where, "str_tokens")
        words = tuple(text_of(token, where, "a token") for token in tokens)
        judged.append(JudgedRecord(row["activating"], answer, stratum, words))
    return tuple(judged)
