"""Results of sparse probing as the files that ``sae-probes`` writes (its ``save_results``)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from monosemy.errors import DataError
from monosemy.specs.rest.benchmarks import BenchmarkResult

_SETTING = "normal_setting"
_FIELDS = {
    "test_f1": "f1",
    "test_acc": "accuracy",
    "test_auc": "auc",
    "val_auc": "validation_auc",
}


def write_probing_files(result: BenchmarkResult, folder: str | Path) -> list[Path]:
    """Writes ``sae_probes_MODEL/normal_setting/TASK_HOOK_l2.json`` for each task, a list with one
    object for each number of latents; figures are means over seeds, latents those of the first.

    ``DataError`` for a result of another benchmark.
    """
    if result.benchmark != "probing":
        raise DataError(f"These are results of '{result.benchmark}', not of 'probing'.")
    by_name = {each.metric: each.parts for each in result.metrics if each.subject == "sae"}
    root = Path(folder) / f"sae_probes_{_safe(result.about.model)}" / _SETTING
    root.mkdir(parents=True, exist_ok=True)
    written = []
    for at, unit in enumerate(result.units):
        rows: list[dict[str, Any]] = []
        for k in result.options["ks"]:
            figures = {name: by_name[f"{own}_k{k}"][at] for name, own in _FIELDS.items()}
            rows.append(
                {
                    **figures,
                    "k": k,
                    "dataset": unit.name,
                    "hook_name": result.about.site,
                    "reg_type": "l2",
                    "binarize": False,
                    "indices": result.details["latents"][unit.name][:k],
                }
            )
        file = root / f"{_safe(unit.name)}_{_safe(result.about.site)}_l2.json"
        file.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        written.append(file)
    return written


def _safe(name: str) -> str:
    """Without what would make another folder of it."""
    return re.sub(r"[/\\\x00]", "_", name) or "_"
