"""An index as rows for the ``features`` table, one at a time.  numpy only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from monosemy.index.evidence import evidence_label
from monosemy.index.reader import IndexReader

FIXED_BYTES = 16 + 4 + 8 + 8 + 8
"""SAE id, index, density, max activation, postings."""


class FeatureRows:
    """Iterates over the features in order; nothing is kept.

    ``bytes_per_feature`` is the mean over the rows given so far: JSON of the evidence, examples,
    label and the fixed columns (Postgres adds about 24 bytes a row and its indexes).
    """

    def __init__(self, reader: IndexReader) -> None:
        self._reader = reader
        self._next = 0
        self._bytes = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __len__(self) -> int:
        return self._reader.n_features

    def __next__(self) -> dict[str, Any]:
        """Keys: index, density, max_activation, postings, label, evidence (dict), examples."""
        if self._next >= self._reader.n_features:
            raise StopIteration
        feature = self._next
        evidence = self._reader.evidence(feature)
        label, data = evidence_label(evidence), evidence.as_dict()
        examples = self._reader.example_bytes(feature)
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        self._bytes += len(text.encode()) + len(examples) + len(label.encode())
        self._next += 1
        return {
            "index": feature,
            "density": float(self._reader.density[feature]),
            "max_activation": float(self._reader.max_activation[feature]),
            "postings": int(self._reader.counts[feature]),
            "label": label,
            "evidence": data,
            "examples": examples,
        }

    @property
    def bytes_per_feature(self) -> float:
        return self._bytes / max(self._next, 1) + FIXED_BYTES


def iterate_feature_rows(reader: IndexReader) -> FeatureRows:
    """The rows of an index, streamed; measure ``bytes_per_feature`` on the result afterwards."""
    return FeatureRows(reader)
