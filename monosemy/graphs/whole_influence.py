"""What of a whole graph's influence a smaller one keeps, beside what chance would keep.  No torch.

A share kept says little alone: a few nodes carry most, and so do many.  So as many random nodes of
each kind are drawn from the whole graph.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monosemy.errors import DataError
from monosemy.graphs.graph import Floats, Graph, Ints, NodeKind
from monosemy.graphs.influence import influence
from monosemy.specs.rest.circuits import WithInterval
from monosemy.specs.rest.graphs import GraphKept

DRAWS = 100
_COUNTS = struct.Struct("<3Q")
_MOST_BYTES = 2**30


@dataclass(frozen=True)
class WholeInfluence:
    """Influence in the whole graph: of the nodes that a pruned one has, and of all features and all
    errors."""

    node_N: Floats
    feature_F: Floats
    error_E: Floats

    @classmethod
    def of(cls, whole: Graph, kept: Ints | None = None) -> WholeInfluence:
        """``kept``: the nodes of the whole that the pruned graph has (``Pruned.kept``); None: all
        of them."""
        through, kind = influence(whole).through_N, whole.nodes.kind
        return cls(
            through if kept is None else through[kept],
            through[kind == NodeKind.feature],
            through[kind == NodeKind.error],
        )

    def kept(self, kind_N: Ints, kept_N: npt.NDArray[np.bool_], seed: int = 0) -> GraphKept:
        """Of the pruned graph's nodes ``kept_N``, whose kinds are ``kind_N``."""
        total = float(self.feature_F.sum() + self.error_E.sum())
        pairs = ((NodeKind.feature, self.feature_F), (NodeKind.error, self.error_E))
        chosen = [kept_N & (kind_N == kind) for kind, _ in pairs]
        counts = [int(each.sum()) for each in chosen]
        own = sum(float(self.node_N[each].sum()) for each in chosen)
        shares = np.zeros(DRAWS)
        rng = np.random.default_rng(seed)
        for (_, through), count in zip(pairs, counts, strict=True):
            shares += _random_sums(through, min(count, len(through)), rng)
        shares /= max(total, 1e-300)
        low, high = np.quantile(shares, (0.025, 0.975))
        return GraphKept(
            influence=own / max(total, 1e-300),
            nodes=sum(counts),
            of_nodes=len(self.feature_F) + len(self.error_E),
            of_chance=WithInterval(value=float(shares.mean()), low=float(low), high=float(high)),
            draws=DRAWS,
        )

    def to_bytes(self) -> bytes:
        """float32, deflated; the same numbers are the same bytes."""
        parts = (self.node_N, self.feature_F, self.error_E)
        data = b"".join(part.astype("<f4").tobytes() for part in parts)
        return _COUNTS.pack(*map(len, parts)) + zlib.compress(data, 6)

    @classmethod
    def of_bytes(cls, data: bytes) -> WholeInfluence:
        """``DataError`` for what ``to_bytes`` did not make."""
        try:
            counts = _COUNTS.unpack_from(data)
            unpacked = zlib.decompressobj().decompress(data[_COUNTS.size :], _MOST_BYTES)
            parts = _split(np.frombuffer(unpacked, "<f4").astype(np.float64), counts)
        except (struct.error, zlib.error, ValueError) as error:
            raise DataError(f"A graph's influence cannot be read: {error}.") from None
        return cls(*parts)


def _split(values: Floats, counts: Sequence[int]) -> list[Floats]:
    if sum(counts) != len(values):
        raise ValueError("it has another number of nodes than it says")
    return np.split(values, np.cumsum(counts)[:-1])


def _random_sums(values: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Of ``count`` values drawn without replacement, the sums of each draw."""
    if count == len(values):
        return np.full(DRAWS, values.sum())
    return np.array(
        [
            values[rng.choice(len(values), count, replace=False, shuffle=False)].sum()
            for _ in range(DRAWS)
        ]
    )
