"""Features that bear the same label: exact duplicates, and near ones by embedding.  numpy only.

An explanation that many features share tells none of them from the others, however well it scores
("Descriptive Collision", arXiv 2605.12874, finds most labels of an SAE shared).  Whether that is
the explainer's fault or the dictionary's is told by the decoders: features with one direction and
one label are duplicates (or one feature split up); features with one label and different directions
have a label too coarse.

Near duplicates are clustered under complete linkage: any two texts of a cluster are as near as the
threshold asks.  Single linkage would chain cities to countries to politics.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monosemy.errors import DataError
from monosemy.interp.nearest import Floats, nearest_rows, pair_cosines, unit_rows

NEAR = 0.9
"""Cosine of two explanations from which on they count as saying the same.  It depends on the
embedder and errs to the safe side: by MiniLM years of the 19th and of the 20th century lie at 0.84,
as do many paraphrases, which are then not found."""
ALIKE = 0.7
"""Cosine of two decoder directions from which on they count as one."""
CANDIDATES = 32
"""Partners compared with each text: its nearest among those after it."""
_ROUNDING = 1e-6

_QUOTES = re.compile("[\"'`\u2018-\u201f\u2039\u203a\u00ab\u00bb]")
_FULL_STOP = re.compile(r"(?<=[\w')\]])\.$")


@dataclass(frozen=True)
class DuplicateCluster:
    """Features whose explanations say the same."""

    features: tuple[int, ...]
    """Ascending."""
    texts: tuple[str, ...]
    """The different wordings, most frequent first; of those equal when normalised, one."""
    exact: bool
    """Whether all are equal when normalised."""
    lowest_cosine: float | None
    """Between any two wordings; None where there is but one, or without embeddings."""
    decoders: dict[str, Any] | None = None
    """Of all pairs of decoder rows: ``pairs``, ``mean`` and ``lowest`` cosine, and the ``share``
    that is at least ``ALIKE``; None where no decoder was given."""

    @property
    def decoders_agree(self) -> bool | None:
        """Whether all directions are alike, too: duplicates, not a coarse label."""
        return None if self.decoders is None else self.decoders["share"] == 1.0


@dataclass(frozen=True)
class DuplicateLabels:
    """Clusters of two and more features, largest first."""

    clusters: tuple[DuplicateCluster, ...]
    n_features: int
    n_distinct: int
    """Different explanations when normalised."""
    near: float | None
    """Cosine from which on explanations count as the same; None if only exact ones do."""

    @property
    def n_shared(self) -> int:
        """Features that share their explanation with another."""
        return sum(len(cluster.features) for cluster in self.clusters)

    def as_dict(self, most: int | None = None) -> dict[str, Any]:
        """JSON-able, with the ``most`` largest clusters (None: all)."""
        known = [c for c in self.clusters if c.decoders_agree is not None]
        return {
            "n_features": self.n_features,
            "n_distinct": self.n_distinct,
            "n_shared": self.n_shared,
            "shared": self.n_shared / self.n_features if self.n_features else None,
            "near": self.near,
            "n_clusters": len(self.clusters),
            "n_exact": sum(cluster.exact for cluster in self.clusters),
            "decoders_known": len(known),
            "decoders_agree": sum(bool(cluster.decoders_agree) for cluster in known),
            "clusters": [
                {**asdict(cluster), "decoders_agree": cluster.decoders_agree}
                for cluster in self.clusters[:most]
            ],
        }


def normalised(text: str) -> str:
    """Without case, compatibility forms (NFKC), kinds of quotation marks, repeated white space and
    the full stop of the last word.

    Other punctuation stays: it may be what the feature is about.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = " ".join(_QUOTES.sub("'", folded).split())
    return _FULL_STOP.sub("", words)


def duplicate_labels(
    features: Sequence[int],
    texts: Sequence[str],
    vectors_ND: npt.ArrayLike | None = None,
    near: float = NEAR,
    decoder_FD: npt.NDArray[Any] | None = None,
    alike: float = ALIKE,
) -> DuplicateLabels:
    """Clusters of ``features`` by their explanations ``texts``, one each.

    ``vectors_ND`` are embeddings of the texts in their order; without them only exact duplicates
    are found.  Of texts that are equal when normalised the first stands for all.  Pairs are taken
    nearest first, and two clusters are joined if every text of one is within ``near`` of every text
    of the other; each text has its ``CANDIDATES`` nearest later ones tried.  ``decoder_FD`` is the
    SAE's decoder, one row per feature of the SAE (a memory map will do: rows are read by cluster).

    Time O(n^2 d), in tiles: memory grows with n, never with n^2.  Raises ``DataError`` for unequal
    lengths, a repeated feature, unusable vectors or a decoder without one of the features.
    """
    if len(features) != len(texts) or len(set(features)) != len(features):
        raise DataError("One explanation for each of different features is needed.")
    groups: dict[str, list[int]] = {}
    for i, text in enumerate(texts):
        groups.setdefault(normalised(text), []).append(i)
    same = list(groups.values())
    unit_GD = None
    if vectors_ND is not None:
        unit_ND = unit_rows(vectors_ND)
        if len(unit_ND) != len(texts):
            raise DataError(f"There are {len(unit_ND)} vectors for {len(texts)} explanations.")
        unit_GD = unit_ND[[group[0] for group in same]]
    parts = [[g] for g in range(len(same))] if unit_GD is None else _linked(unit_GD, near)
    clusters = [
        _cluster([same[g] for g in part], features, texts, decoder_FD, alike)
        if unit_GD is None or len(part) == 1
        else _cluster([same[g] for g in part], features, texts, decoder_FD, alike, unit_GD[part])
        for part in parts
        if len(part) > 1 or len(same[part[0]]) > 1
    ]
    clusters.sort(key=lambda cluster: (-len(cluster.features), cluster.features))
    return DuplicateLabels(
        tuple(clusters), len(texts), len(same), None if vectors_ND is None else near
    )


def _cluster(
    groups: Sequence[Sequence[int]],
    features: Sequence[int],
    texts: Sequence[str],
    decoder_FD: npt.NDArray[Any] | None,
    alike: float,
    unit_MD: Floats | None = None,
) -> DuplicateCluster:
    members = sorted(features[i] for group in groups for i in group)
    wordings = [texts[group[0]] for group in sorted(groups, key=lambda g: (-len(g), g[0]))]
    decoders = None
    if decoder_FD is not None:
        if members[-1] >= len(decoder_FD) or members[0] < 0:
            raise DataError(
                f"The decoder has {len(decoder_FD)} rows; feature {members[-1]} is asked."
            )
        rows = unit_rows(decoder_FD[members])
        decoders = pair_cosines(rows, alike - _ROUNDING)
    return DuplicateCluster(
        tuple(members),
        tuple(wordings),
        len(groups) == 1,
        None if unit_MD is None else pair_cosines(unit_MD)["lowest"],
        decoders,
    )


def _linked(unit_GD: Floats, near: float) -> list[list[int]]:
    """Parts of the rows, ascending; within a part all cosines are at least ``near``."""
    least = near - _ROUNDING
    rows_GK, cosines_GK = nearest_rows(unit_GD, CANDIDATES, least, later_only=True)
    first_P, place_P = np.nonzero(rows_GK >= 0)
    second_P, cosine_P = rows_GK[first_P, place_P], cosines_GK[first_P, place_P]
    members: dict[int, list[int]] = {}
    part_of = np.arange(len(unit_GD))
    # Parts of which two rows are known to be too far apart can never be joined.
    apart: dict[int, set[int]] = {}
    for p in np.lexsort((second_P, first_P, -cosine_P)).tolist():
        a, b = int(part_of[first_P[p]]), int(part_of[second_P[p]])
        if a == b or b in apart.get(a, ()):
            continue
        of_a, of_b = members.get(a, [a]), members.get(b, [b])
        if len(of_a) < len(of_b):
            a, b, of_a, of_b = b, a, of_b, of_a
        if not _all_near(unit_GD, of_a, of_b, least):
            apart.setdefault(a, set()).add(b)
            apart.setdefault(b, set()).add(a)
            continue
        members[a] = of_a + of_b
        members.pop(b, None)
        part_of[of_b] = a
        for other in apart.pop(b, set()):
            apart[other].discard(b)
            apart[other].add(a)
            apart.setdefault(a, set()).add(other)
    alone = (part_of == np.arange(len(unit_GD))).nonzero()[0].tolist()
    return [sorted(members.get(part, [part])) for part in alone]


def _all_near(unit_GD: Floats, first: list[int], second: list[int], least: float) -> bool:
    """Whether all cosines between two sets of rows are large enough; few rows at a time."""
    other_BD = unit_GD[second]
    step = max(1, 2_000_000 // len(second))
    return all(
        float((unit_GD[first[i : i + step]] @ other_BD.T).min()) >= least
        for i in range(0, len(first), step)
    )
