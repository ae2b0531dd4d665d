"""Negatives near in meaning: windows that read like activating ones, yet the feature is silent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from monosemy.index.examples import NEGATIVE, Example
from monosemy.index.reader import IndexReader
from monosemy.index.sampling import PER_DOCUMENT
from monosemy.interp.window_embeddings import Ints, WindowEmbeddings

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore

MAX_QUERIES = 32
"""At most so many activating examples of a feature are searched by, spread over its strata."""

_HEAD = 256
"""Nearest windows sorted first; the rest only if all of these are taken."""


@dataclass(frozen=True)
class _Places:
    """A window of a wanted shape around the middle of each fixed window; ``[W]`` each."""

    starts: Ints
    usable: npt.NDArray[np.bool_]
    """It fits the row, and the feature fires neither in it nor in the fixed window."""


class NearNegatives:
    """Negatives of one text for any feature, by exact search; deterministic.

    Activating examples take turns.  Each is given the nearest window by cosine (the embedding of
    the fixed window that holds its token, against those of all others) that is silent, in a row
    without any of the examples, in a row and of a text not taken yet, ``PER_DOCUMENT`` to a
    document.  It gets the activating example's shape, so that lengths tell nothing.
    One example at a time, since a feature of many meanings has a mean that is near to none.
    """

    def __init__(self, reader: IndexReader, store: TokenStore, found: WindowEmbeddings) -> None:
        self._reader, self._store, self._found = reader, store, found
        self._row_start = np.asarray(store.row_start, np.int64)
        windows = found.windows
        self._documents = np.asarray(store.row_document)[windows.rows].astype(np.int64)
        self._first = self._row_start[windows.rows]
        self._last = self._row_start[windows.rows + 1]
        self._n_documents = len(np.unique(self._documents))

    def __call__(
        self,
        feature: int,
        count: int,
        seed: int,  # noqa: ARG002
        positives: Sequence[Example],
    ) -> list[Example]:
        """``count`` negatives for these activating examples; fewer if there are no more."""
        windows = self._found.windows
        chosen = np.unique(
            np.linspace(0, len(positives) - 1, min(MAX_QUERIES, count, len(positives))).round()
        ).astype(int)
        queries = [positives[i] for i in chosen]
        own = windows.holding(np.array([query.position for query in queries], np.int64))
        queries = [query for query, window in zip(queries, own, strict=True) if window >= 0]
        if not queries or count <= 0:
            return []
        own = own[own >= 0]
        cosines_QW = self._found.similarities(self._found.vectors[own].astype(np.float32))
        fires, _ = self._reader.postings(feature)
        free = ~np.isin(windows.rows, [example.row for example in positives])
        places: dict[tuple[int, int], _Places] = {}
        waiting: list[Iterator[Example]] = []
        for query, cosines in zip(queries, cosines_QW, strict=True):
            shape = (query.position - query.start, query.end - query.position)
            if shape not in places:
                places[shape] = self._places(*shape, fires, free)
            waiting.append(self._nearest(cosines, places[shape], *shape))
        return self._take_in_turn(waiting, count)

    def _places(self, before: int, after: int, fires: Ints, free: npt.NDArray[np.bool_]) -> _Places:
        windows, length = self._found.windows, before + after
        starts = (windows.starts + windows.ends - length) // 2
        starts = np.maximum(np.minimum(starts, self._last - length), self._first)
        low = np.searchsorted(fires, np.minimum(starts, windows.starts))
        high = np.searchsorted(fires, np.maximum(starts + length, windows.ends))
        return _Places(starts, free & (low == high) & (starts + length <= self._last))

    def _nearest(
        self, cosines_W: npt.NDArray[np.float32], places: _Places, before: int, after: int
    ) -> Iterator[Example]:
        for i in _descending(np.where(places.usable, cosines_W, -np.inf)):
            start = int(places.starts[i])
            yield Example(
                row=int(self._found.windows.rows[i]),
                document=int(self._documents[i]),
                position=start + before,
                group=NEGATIVE,
                start=start,
                end=start + before + after,
                offsets=(),
                values=(),
            )

    def _take_in_turn(self, waiting: list[Iterator[Example]], count: int) -> list[Example]:
        cap = max(PER_DOCUMENT, -(-count // max(self._n_documents, 1)))
        taken: list[Example] = []
        rows: set[int] = set()
        texts: set[bytes] = set()
        documents: Counter[int] = Counter()
        while waiting and len(taken) < count:
            for candidates in list(waiting):
                for example in candidates:
                    text = np.asarray(self._store.tokens[example.start : example.end]).tobytes()
                    full = documents[example.document] >= cap
                    if full or example.row in rows or text in texts:
                        continue
                    rows.add(example.row)
                    texts.add(text)
                    documents[example.document] += 1
                    taken.append(example)
                    break
                else:
                    waiting.remove(candidates)
                if len(taken) == count:
                    break
        return taken


def _descending(values_W: npt.NDArray[Any]) -> Iterator[int]:
    """Indices of all finite values, largest first, the earlier of equals first."""
    head = np.arange(len(values_W))
    if len(head) > _HEAD:
        border = np.partition(values_W, len(head) - _HEAD)[len(head) - _HEAD]
        head = np.flatnonzero(values_W >= border)
    for indices in (head, None):
        if indices is None:
            if len(head) == len(values_W):
                return
            indices = np.setdiff1d(np.arange(len(values_W)), head, assume_unique=True)
        ordered = indices[np.argsort(-values_W[indices], kind="stable")]
        yield from ordered[np.isfinite(values_W[ordered])].tolist()
