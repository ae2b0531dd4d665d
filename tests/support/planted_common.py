"""Graphs of several prompts that share a planted core; no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monosemy.graphs.aligned import GraphToAlign
from monosemy.graphs.firing import Firing
from monosemy.graphs.graph import Graph, NodeKind, Nodes, Rows

LATENTS, LAYERS, KEPT, FIRING = 1000, 3, 24, 150
CORE = (11, 22, 33)
"""A latent of each layer, in every graph with ``core``; each feeds the next, the last the goal."""


def prompt_graph(seed: int, core: Sequence[int] = CORE) -> GraphToAlign:
    """A graph of a prompt of five tokens: ``core``, and ``KEPT`` features of each layer that are
    drawn among ``FIRING`` ones in proportion to activation, whichever prompt it is; every feature
    has three sources below it at random.  Of each layer the same ones fire on all prompts, with
    activations that differ by prompt."""
    rng = np.random.default_rng(1000 + seed)
    always = np.random.default_rng(0)
    layer, latent, value = [], [], []
    fires: list[tuple[int, int, float]] = []
    for at in range(LAYERS):
        pool = always.choice(np.arange(100, LATENTS), FIRING, replace=False)
        strength = np.exp(always.normal(size=FIRING) + 0.3 * rng.normal(size=FIRING))
        come = np.argsort(rng.exponential(size=FIRING) / strength)[:KEPT]
        own = [(number, 1.0) for number in core[at : at + 1]]
        own += [(int(pool[place]), float(strength[place])) for place in come]
        kept = {number for number, _ in own}
        layer += [at] * len(own)
        latent += [number for number, _ in own]
        value += [strong for _, strong in own]
        fires += [(at, number, strong) for number, strong in own]
        fires += [
            (at, int(number), float(strong))
            for number, strong in zip(pool, strength, strict=True)
            if int(number) not in kept
        ]
    graph = _graph(rng, np.array(layer), np.array(latent), np.array(value), len(core))
    columns = np.array(fires)
    position = rng.integers(1, 5, len(fires))
    firing = Firing(columns[:, 0].astype(int), columns[:, 1].astype(int), position, columns[:, 2])
    return GraphToAlign(graph, firing)


def _graph(
    rng: np.random.Generator, layer: np.ndarray, latent: np.ndarray, value: np.ndarray, core: int
) -> Graph:
    tokens, count = 5, len(layer)
    goal = tokens + count
    nodes = Nodes(
        np.array([NodeKind.token] * tokens + [NodeKind.feature] * count + [NodeKind.logit]),
        np.concatenate([[-1] * tokens, layer, [LAYERS]]),
        np.concatenate([np.arange(tokens), rng.integers(1, tokens, count), [tokens - 1]]),
        np.concatenate([[-1] * tokens, layer, [-1]]),
        np.concatenate([np.arange(tokens), latent, [7]]),
        np.concatenate([np.zeros(tokens), value, [0.5]]),
    )
    first = {at: tokens + int(np.flatnonzero(layer == at)[0]) for at in range(LAYERS)}
    rows = []
    for target in [goal, *range(goal - 1, tokens - 1, -1)]:
        own = int(nodes.layer[target])
        below = np.flatnonzero((nodes.layer == own - 1) & (np.arange(len(nodes)) < goal))
        sources = rng.choice(below, min(3, len(below)), replace=False).tolist()
        weights = rng.normal(size=len(sources)).tolist()
        if core and (target == goal or (target == first[own] and own > 0)):
            before = first[own - 1]
            if before in sources:
                at = sources.index(before)
                del sources[at], weights[at]
            sources.append(before)
            weights.append(3.0)
        rows.append((target, sources, weights))
    start = np.concatenate([[0], np.cumsum([len(sources) for _, sources, _ in rows])])
    return Graph(
        tuple(range(tokens)),
        ("<s>", "a", "b", "c", "d"),
        LAYERS,
        nodes,
        Rows(
            np.array([target for target, _, _ in rows]),
            start,
            np.array([each for _, sources, _ in rows for each in sources]),
            np.array([each for _, _, weights in rows for each in weights]),
            np.zeros(len(rows)),
            np.zeros(len(rows)),
            np.array([sum(weights) for _, _, weights in rows]),
        ),
        (goal,),
        (" x",),
        np.array([0.5]),
        {"host": {"fingerprint": "0" * 16}},
    )
