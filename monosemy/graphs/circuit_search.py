"""The smallest circuit that a graph proposes for a wanted share of what all features do.

Features are taken in the order of how much influence flows through them.  The replacement model is
run with the first of them alone (``run_circuits``, errors of the clean prompt kept), at sizes that
double; between the last size that keeps too little and the first that keeps enough the size is
halved down.  What is kept need not rise with the size, so the whole curve is told, beside features
in random orders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from monosemy.graphs.graph import Branch, Floats, Graph, Ints, NodeKind
from monosemy.graphs.influence import influence
from monosemy.specs.graphs import CircuitAtSize, CircuitSearch

Masks = npt.NDArray[np.bool_]
"""Sets of features, ``[B, N]``."""
Kept = Callable[[Masks], Floats]
"""The share of what all features do that each set keeps."""


def search_circuit(
    graph: Graph, kept: Kept, wanted: float, orders: int, rng: np.random.Generator
) -> CircuitSearch:
    """``graph``: the whole traced graph, whose features are those of ``kept``, in their order;
    ``orders``: random orders beside."""
    features = np.flatnonzero(graph.nodes.kind == NodeKind.feature)
    through = influence(graph).through_N[features]
    order = np.argsort(-through, kind="stable")
    count = len(features)
    sizes = _doubling(count)
    shuffled = [rng.permutation(count) for _ in range(orders)]
    shares = kept(_first([order], sizes, count))
    beside = kept(_first(shuffled, sizes, count)).reshape(orders, len(sizes))
    curve = [
        CircuitAtSize(
            features=size,
            kept=float(shares[at]),
            random_kept=float(beside[:, at].mean()),
            random_low=float(beside[:, at].min()),
            random_high=float(beside[:, at].max()),
        )
        for at, size in enumerate(sizes)
    ]
    enough = next((at for at, share in enumerate(shares) if share >= wanted), None)
    if enough is None:
        return CircuitSearch(
            wanted=wanted, features=None, kept=None, names=[], curve=curve, orders=orders
        )
    low = sizes[enough - 1] if enough else 0
    size, share = sizes[enough], float(shares[enough])
    while size - low > 1:
        middle = (low + size) // 2
        there = float(kept(_first([order], [middle], count))[0])
        if there >= wanted:
            size, share = middle, there
        else:
            low = middle
    return CircuitSearch(
        wanted=wanted,
        features=size,
        kept=share,
        names=[feature_name(graph, int(number)) for number in features[order[:size]]],
        curve=curve,
        orders=orders,
    )


def feature_name(graph: Graph, node: int) -> str:
    """layer/latent@position, ``layer.attn`` of a feature of attention."""
    nodes = graph.nodes
    of = ".attn" if nodes.branch[node] == Branch.attention else ""
    return f"{nodes.layer[node]}{of}/{nodes.number[node]}@{nodes.position[node]}"


def _doubling(count: int) -> list[int]:
    """1, 2, 4, ... and all."""
    sizes = []
    size = 1
    while size < count:
        sizes.append(size)
        size *= 2
    return [*sizes, count]


def _first(orders: Sequence[Ints], sizes: Sequence[int], count: int) -> Masks:
    """Of each order the first features, at each size: ``[orders * sizes, count]``."""
    masks = np.zeros((len(orders) * len(sizes), count), bool)
    for row, order in enumerate(orders):
        for at, size in enumerate(sizes):
            masks[row * len(sizes) + at, order[:size]] = True
    return masks
