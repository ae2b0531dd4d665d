"""What is compared: digests by name, without what differs between any two runs.

Only fields listed here by name are left out.  Ids are replaced by the names of what they identify.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file
from sqlalchemy import Engine, inspect, text

RANDOM = frozenset(
    {
        *("created_at", "started_at", "finished_at", "not_before", "updated_at"),
        *("seconds", "tokens_per_second", "rate", "eta_seconds", "elapsed_seconds"),
        *("progress", "stages", "lease_owner", "lease_expires_at"),
        "next_cursor",  # a digest of the SAE's id is in it
        "monosemy",  # the version, among those of the packages
        "files",  # inodes and times of an SAE's files, beside its layout
    }
)
"""Times, what is written every so many seconds, and the version of the commit itself."""

TABLES: dict[str, tuple[str, ...]] = {
    "models": ("name",),
    "saes": ("name",),
    "documents": ("document",),
    "contexts": ("row",),
    "features": ("sae_id", "index"),
    "explanations": ("sae_id", "feature", "explainer", "text"),
    "scores": ("explanation_id", "scorer", "metric", "n"),
    "comparisons": ("by", "method"),
    "feature_links": ("comparison_id", "feature_a", "feature_b"),
    "sae_layouts": ("sae_id",),
    "tasks": ("id",),
    "benchmark_results": ("sae_id", "protocol"),
    "concepts": ("id",),
    "sae_attention": ("sae_id",),
    "feature_attention": ("sae_id", "feature"),
    "circuits": ("task",),
    "crosscoder_latents": ("sae_id", "feature"),
    "graphs": ("name",),
    "judge_spend": ("run_id",),
    "training_readings": ("run_id", "place", "step"),
    "runs": ("id",),
}
"""By what the rows are put in order.  An older commit may not have all of them."""

ID_IN_KEY = ("scores", "scorer", "discrimination")
"""Table, column and value of the rows whose ``key`` hashes ids of explanations, new in each run."""

_NAMED = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|http://127\.0\.0\.1:\d+(?:/v1)?")
"""Ids, and the addresses of the stubs, whose ports are new each time."""

Digests = dict[str, str]


def digest(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def normalised(value: Any, names: Mapping[str, str]) -> Any:
    """JSON without the ``RANDOM`` fields, known ids replaced by names."""
    if isinstance(value, dict):
        return {
            normalised(key, names): normalised(each, names)
            for key, each in value.items()
            if key not in RANDOM
        }
    if isinstance(value, list):
        return [normalised(each, names) for each in value]
    if isinstance(value, str):
        return _NAMED.sub(lambda match: names.get(match.group(), match.group()), value)
    return value


def of_rows(engine: Engine, names: dict[str, str]) -> Digests:
    """Of every table, SAE and column; adds the names of explanations and comparisons."""
    digests: Digests = {}
    with engine.connect() as connection:
        there = set(inspect(connection).get_table_names())
        for table, order in TABLES.items():
            if table not in there:
                continue
            rows = [
                dict(row)
                for row in connection.scalars(text(f'SELECT to_jsonb(t) FROM "{table}" t'))
            ]
            ids = [row.get("id") for row in rows]
            clean = [normalised(row, names) for row in rows]
            for row in clean:
                if (table, "scorer", row.get("scorer")) == ID_IN_KEY:
                    row["key"] = "of ids"
            places = sorted(
                range(len(clean)), key=lambda i: json.dumps([clean[i][name] for name in order])
            )
            if table in ("explanations", "comparisons"):
                for place, number in enumerate(places):
                    names[str(ids[number])] = f"{table}-{place}"
            columns: dict[str, list[Any]] = defaultdict(list)
            for number in places:
                row = clean[number]
                owner = row.get("sae_id") or row.get("name") or row.get("comparison_id") or "all"
                for column, value in row.items():
                    if column != "id":
                        columns[f"rows/{table}/{owner}/{column}"].append(value)
            digests |= {name: digest(values) for name, values in columns.items()}
            digests[f"rows/{table}/count"] = str(len(rows))
    return digests


def of_folder(folder: Path, prefix: str, names: Mapping[str, str]) -> Digests:
    """Of every tensor and file beneath ``folder``."""
    digests: Digests = {}
    for path in sorted(folder.rglob("*")):
        name = f"{prefix}/{path.relative_to(folder)}"
        if path.suffix == ".safetensors":
            for key, tensor in load_file(path).items():
                about = f"{tensor.dtype}{tensor.shape}".encode()
                digests[f"{name}/{key}"] = digest(about + tensor.tobytes())
        elif path.suffix == ".json":
            data = json.loads(path.read_text(encoding="utf-8"))
            digests[name] = digest(normalised(data, names))
        elif path.suffix == ".jsonl":
            lines = path.read_text(encoding="utf-8").splitlines()
            digests[name] = digest([normalised(json.loads(line), names) for line in lines])
        elif path.suffix == ".html":
            continue  # drawn from the readings, with their times
        elif path.is_file():
            digests[name] = digest(path.read_bytes())
    return digests


def of_document(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Of the parts of an OpenAPI document."""
    for part, value in document.items():
        if part == "paths":
            for path, methods in value.items():
                for method, operation in methods.items():
                    yield f"openapi/{method} {path}", digest(operation)
        elif part == "components":
            for kind, parts in value.items():
                for name, each in parts.items():
                    yield f"openapi/{kind}/{name}", digest(each)
        elif part == "info":
            yield "openapi/info", digest({k: v for k, v in value.items() if k != "version"})
        else:
            yield f"openapi/{part}", digest(value)
