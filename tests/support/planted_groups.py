"""Graphs whose supernodes are known; no torch."""

from __future__ import annotations

import numpy as np

from monosemy.graphs.graph import Graph, NodeKind
from tests.support.random_graphs import Edge, graph_of

TOKENS, GROUPS, EACH, LONE = 24, 4, 4, 12
_LAYERS = "abc"


def planted_groups(seed: int = 0, noise: float = 0.15) -> tuple[Graph, dict[str, int]]:
    """Three layers of ``GROUPS`` groups of ``EACH`` features and ``LONE`` others, fed by what is
    below.  Members of a group have the same sources (six tokens, or two groups) and feed the same
    targets, their weights apart by ``noise``; the others have theirs at random.  A feature is
    called by its layer, group and number: ``a03``; others are ``a-7``."""
    rng = np.random.default_rng(seed)
    kinds = {f"t{place}": (NodeKind.token, -1) for place in range(TOKENS)}
    kinds |= {"x": (NodeKind.logit, 3), "y": (NodeKind.logit, 3)}
    edges: list[Edge] = []
    below, together = [*kinds][:TOKENS], [[f"t{place}"] for place in range(TOKENS)]

    def sized(count: int = 1) -> list[float]:
        weights = rng.normal(size=count)
        return (weights + np.sign(weights)).tolist()

    def feed(sources: list[list[str]], weights: list[float], target: str) -> None:
        for group, weight in zip(sources, weights, strict=True):
            for source in group:
                edges.append((source, target, weight * float(np.exp(noise * rng.normal()))))

    for layer, letter in enumerate(_LAYERS):
        groups = [[f"{letter}{group}{one}" for one in range(EACH)] for group in range(GROUPS)]
        lone = [f"{letter}-{one}" for one in range(LONE)]
        for members in groups:
            chosen = rng.choice(len(together), 2 if layer else 6, replace=False)
            sources, weights = [together[at] for at in chosen], sized(len(chosen))
            for target in members:
                feed(sources, weights, target)
        for target in lone:
            chosen = rng.choice(len(below), 6, replace=False)
            feed([[below[at]] for at in chosen], sized(6), target)
        together, below = groups, [*(each for group in groups for each in group), *lone]
        kinds |= dict.fromkeys(below, (NodeKind.feature, layer))
    for goal in ("x", "y"):
        for members in [*together, *([each] for each in lone)]:
            feed([members], sized(), goal)
    return graph_of(kinds, edges, {"x": 0.6, "y": 0.4})
