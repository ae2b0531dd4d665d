"""The sparse activations of an index as record batches, read from its mapped files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from monosemy.errors import DataError
from monosemy.workspace import Kind, Workspace
from service.database.tables import Sae
from service.kit.errors import Conflict, InvalidRequest, NotFound

if TYPE_CHECKING:
    import pyarrow as pa

    from monosemy.data.store import TokenStore
    from monosemy.index.reader import IndexReader

BATCH_POSTINGS = 65_536


@dataclass(frozen=True)
class OpenIndex:
    """An SAE's current index with the text that it was made over."""

    reader: IndexReader
    store: TokenStore


def open_index(workspace: Workspace, sae: Sae) -> OpenIndex:
    """Both are memory mapped.  409 for an SAE without index, 404 where its files are not here."""
    from monosemy.data.store import TokenStore
    from monosemy.index.reader import IndexReader

    if sae.index is None:
        raise Conflict(f"Index '{sae.name}' first (kind: index).", title="The SAE has no index")
    try:
        reader = IndexReader(workspace.locate(str(sae.index["path"])))
        store = TokenStore.open(workspace.find(Kind.TEXT, reader.text_id))
        reader.check_store(store)
    except (DataError, OSError):
        raise NotFound(
            "readable index of", sae.name, "Do API and workers share their artifact folder?"
        ) from None
    return OpenIndex(reader, store)


def activation_schema() -> pa.Schema:
    """Columns: a row is one token on which one feature fires."""
    import pyarrow as pa

    kinds: list[tuple[str, Any]] = [
        ("feature", pa.int32()),
        ("position", pa.int64()),
        ("document", pa.int32()),
        ("row", pa.int32()),
        ("offset", pa.int32()),
        ("token_id", pa.uint32()),
        ("activation", pa.float32()),
    ]
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds])


def chosen_features(index: OpenIndex, wanted: list[int] | None) -> Iterable[int]:
    """In ascending order, each once; all if None.  422 for one that the SAE has not."""
    count = index.reader.n_features
    if wanted is None:
        return range(count)
    unknown = [feature for feature in wanted if feature >= count]
    if unknown:
        raise InvalidRequest([("features", f"there is no feature {unknown[0]}: there are {count}")])
    return sorted(set(wanted))


def activation_batches(
    index: OpenIndex, features: Iterable[int], size: int = BATCH_POSTINGS
) -> Iterator[pa.RecordBatch]:
    """By feature, then by position; at most ``size`` rows at a time, whatever a feature has."""
    gathered: list[tuple[npt.NDArray[Any], ...]] = []
    count = 0
    for feature in features:
        firings = index.reader.firings(feature)
        start, total = 0, len(firings.positions)
        while start < total:
            stop = min(total, start + size - count)
            piece = slice(start, stop)
            positions = firings.positions[piece].astype(np.int64)
            labels = np.full(len(positions), feature, np.int32)
            gathered.append((labels, positions, firings.values(piece)))
            count += stop - start
            start = stop
            if count == size:
                yield _batch(index.store, gathered)
                gathered, count = [], 0
        index.reader.release(feature)
    if gathered:
        yield _batch(index.store, gathered)


def _batch(store: TokenStore, gathered: list[tuple[npt.NDArray[Any], ...]]) -> pa.RecordBatch:
    import pyarrow as pa

    features, positions, values = (np.concatenate(part) for part in zip(*gathered, strict=True))
    rows = np.searchsorted(store.row_start, positions, side="right") - 1
    columns = (
        features,
        positions,
        store.row_document[rows].astype(np.int32),
        rows.astype(np.int32),
        (positions - store.row_start[rows]).astype(np.int32),
        store.tokens[positions].astype(np.uint32),
        values,
    )
    return pa.RecordBatch.from_arrays([pa.array(c) for c in columns], schema=activation_schema())
