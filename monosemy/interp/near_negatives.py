"""Negatives near in meaning: windows that read like activating ones, yet the feature is silent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from monosemy.data.splits import TEST
from monosemy.index.examples import NEGATIVE, Example, Ints
from monosemy.index.sampling import Sampler, generator
from monosemy.interp.window_embeddings import WindowEmbeddings

MAX_QUERIES = 32
"""At most so many activating examples of a feature are searched by, spread over its strata."""

_HEAD = 256
"""Nearest windows sorted first; the rest only if none of these can be used."""
_OFFERED = 16
"""Windows offered to a place at once."""


class NearNegatives:
    """Negatives of the scoring split for any feature, by exact search; deterministic.

    Activating examples take turns.  Each is given the nearest window by cosine (the embedding of
    the fixed window that holds its token, against those of all others) that is silent, once as it
    is and once in the shape of the activating example, so that lengths reveal nothing.  Distinct
    rows, crowding and near-duplicates are as in ``Sampler.negatives``.
    One example at a time, since a feature of many meanings has a mean that is near to none.
    """

    def __init__(self, sampler: Sampler, embeddings: WindowEmbeddings) -> None:
        self._sampler, self._embeddings = sampler, embeddings
        self._first = sampler.row_start[embeddings.windows.rows]
        self._last = sampler.row_start[embeddings.windows.rows + 1]

    def __call__(
        self, feature: int, count: int, seed: int, like: Sequence[Example]
    ) -> list[Example]:
        """``count`` negatives for the activating ones among ``like``; fewer if there are no more.

        Rows of ``like`` are not used again, be they of activating examples or of other negatives.
        """
        queries = self._queries(like, count)
        if not queries:
            return []
        windows, vectors = self._embeddings.windows, self._embeddings.vectors
        own = windows.holding(np.array([query.position for query in queries], np.int64))
        cosines_QW = self._embeddings.similarities(vectors[own].astype(np.float32))
        free = ~np.isin(windows.rows, [example.row for example in like])
        free &= self._sampler.text_of(feature).silent(windows.starts, windows.ends)
        cosines_QW[:, ~free] = -np.inf
        nearest: list[Iterator[int]] = [_descending(cosines_W) for cosines_W in cosines_QW]
        # Places take the shapes of ``like`` in turn, so the queries whose they are come first.
        turns = [queries[i % len(queries)] for i in range(count)]
        rng = generator(feature, TEST, seed)
        slots = self._sampler.slots(feature, TEST, count, [*turns, *like], rng)
        for slot, query in enumerate(turns):
            candidates = nearest[slot % len(queries)]
            while offered := list(islice(candidates, _OFFERED)):
                picked = np.array(offered, np.int64)
                middles = self._middles(picked, query)
                places = np.full(len(picked), slot, np.int64)
                taken = slots.fill(places, middles, windows.rows[picked])
                if taken:
                    # Those behind it may still do for the next place of this query.
                    rest = offered[taken[0] + 1 :]
                    nearest[slot % len(queries)] = chain(rest, candidates)
                    break
        return slots.filled()

    def _queries(self, like: Sequence[Example], count: int) -> list[Example]:
        """Activating examples that a window holds, ``MAX_QUERIES`` and ``count`` at most."""
        activating = [example for example in like if example.group != NEGATIVE and example.values]
        positions = np.array([example.position for example in activating], np.int64)
        held = self._embeddings.windows.holding(positions) >= 0
        activating = [each for each, known in zip(activating, held, strict=True) if known]
        wanted = min(MAX_QUERIES, count, len(activating))
        if wanted <= 0:
            return []
        spread = np.linspace(0, len(activating) - 1, wanted).round().astype(int)
        return [activating[i] for i in spread]

    def _middles(self, picked: Ints, query: Example) -> Ints:
        """Where the token in the middle comes to stand if a window of the query's shape is laid
        around these fixed windows, shifted into their rows as far as it fits."""
        length = query.end - query.start
        windows = self._embeddings.windows
        starts = (windows.starts[picked] + windows.ends[picked] - length) // 2
        starts = np.maximum(np.minimum(starts, self._last[picked] - length), self._first[picked])
        return np.asarray(starts + (query.position - query.start), np.int64)


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
