"""Which rows of the indexed text a survey of an attention SAE reads, for examples of its
features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monosemy.attribution.families import LEAST
from monosemy.data.store import TokenStore
from monosemy.index.reader import IndexReader
from monosemy.progress import SILENT, Reporter

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SurveyExamples:
    """``features``, ``positions`` (flat, in the token store) and ``activations`` have one length;
    they are ordered by position."""

    rows: Ints
    """Ascending."""
    features: Ints
    positions: Ints
    activations: Floats

    def __len__(self) -> int:
        return len(self.features)


def choose_examples(
    reader: IndexReader, store: TokenStore, rows: int, each: int, reporter: Reporter = SILENT
) -> SurveyExamples:
    """At most ``rows`` rows, and for each feature its ``each`` strongest firings in them.

    Rows are taken for the features that fire least first, the row of the strongest firing before
    that of the next, until each has ``LEAST`` or no row is left to take: frequent features fire in
    rows taken for others.  Stage ``choose``, in features.
    """
    reader.check_store(store)
    alive = np.flatnonzero(reader.counts > 0)
    order = alive[np.argsort(reader.counts[alive], kind="stable")]
    wanted: list[Ints] = []
    with reporter.stage("choose", 2 * len(order), "features") as stage:
        for feature in order.tolist():
            wanted.append(_strongest_rows(reader, store, feature, each))
            reader.release(feature)
            stage.advance()
        chosen = _cover(wanted, rows)
        parts = []
        for feature in order.tolist():
            parts.append(_firings_in(reader, store, feature, chosen, each))
            reader.release(feature)
            stage.advance()
    features = np.repeat(order, [len(part[0]) for part in parts])
    positions = np.concatenate([part[0] for part in parts] or [np.empty(0, np.int64)])
    values = np.concatenate([part[1] for part in parts] or [np.empty(0, np.float32)])
    by_position = np.argsort(positions, kind="stable")
    return SurveyExamples(
        chosen,
        features[by_position],
        positions[by_position],
        values[by_position],
    )


def _strongest_rows(reader: IndexReader, store: TokenStore, feature: int, count: int) -> Ints:
    """Rows of a feature's strongest firings, the strongest first, each once."""
    firings = reader.firings(feature)
    strongest = _top(firings.shares, count)
    rows = store.row_of(firings.positions[strongest].astype(np.int64))
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)]


def _top(values: npt.NDArray[np.floating], count: int) -> Ints:
    """Places of the largest, the largest first; of equal ones the first."""
    if len(values) > 4 * count:
        least = np.partition(values, len(values) - count)[len(values) - count]
        places = np.flatnonzero(values >= least)
    else:
        places = np.arange(len(values))
    return places[np.argsort(-values[places].astype(np.float64), kind="stable")[:count]]


def _cover(wanted: list[Ints], most: int) -> Ints:
    """Rows of which as many features as can be have ``LEAST`` of those that they want."""
    who: dict[int, list[int]] = {}
    for place, rows in enumerate(wanted):
        for row in rows.tolist():
            who.setdefault(row, []).append(place)
    have = np.zeros(len(wanted), np.int64)
    chosen: set[int] = set()
    for turn in range(max((len(rows) for rows in wanted), default=0)):
        for place, rows in enumerate(wanted):
            if turn >= len(rows) or have[place] >= LEAST:
                continue
            row = int(rows[turn])
            if row in chosen:
                continue
            if len(chosen) >= most:
                return np.array(sorted(chosen), np.int64)
            chosen.add(row)
            have[who[row]] += 1
    return np.array(sorted(chosen), np.int64)


def _firings_in(
    reader: IndexReader, store: TokenStore, feature: int, rows: Ints, count: int
) -> tuple[Ints, Floats]:
    """The strongest firings within rows (ascending): positions and activations."""
    firings = reader.firings(feature)
    low, high = firings.between(store.row_start[rows], store.row_start[rows + 1])
    lengths = high - low
    total = int(lengths.sum())
    first = np.repeat(low - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    places = np.arange(total) + first
    strongest = places[_top(firings.shares[places], count)]
    return firings.positions[strongest].astype(np.int64), firings.values(strongest)
