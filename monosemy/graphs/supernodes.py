"""Supernodes proposed: features that do the same on a prompt.  No torch.

One feature at adjacent tokens is one supernode.  Then the two groups become one whose pairs are on
average furthest above what pairs of the same layers reach in shuffled graphs, as long as they are
above it and no path leaves the new group and comes back to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monosemy.graphs.graph import Floats, Graph, Ints, NodeKind
from monosemy.graphs.grouping import Paths, group_edges
from monosemy.graphs.influence import Influence, influence
from monosemy.graphs.listing import error_label, node_labels
from monosemy.graphs.profiles import EndProfiles, alike, cosines, end_profiles, is_feature
from monosemy.specs.rest.supernodes import (
    ProposedSupernode,
    ProposedSupernodes,
    SharedEdge,
    SupernodeEdge,
)

LOOKED_AT = 200
"""Features unless told otherwise."""
_SHUFFLES = 39
_LEVEL = 0.95
_LEAST = 0.5
"""Similarity below which nothing is put together, whatever chance does."""
_LEAST_SPREAD = 0.01
_GONE = -np.inf
_SHARED = 3
"""Edges that are told of a supernode at each end."""


@dataclass
class _Grouped:
    """What putting groups together came to."""

    groups: list[list[int]]
    """Places among the features that were looked at."""
    refused: int


def propose_supernodes(
    graph: Graph,
    features: int = LOOKED_AT,
    labels: Mapping[int, str] | None = None,
    embeddings: Mapping[int, npt.NDArray[np.floating]] | None = None,
    flow: Influence | None = None,
    seed: int = 0,
) -> ProposedSupernodes:
    """Of the ``features`` through which most influence flows.

    ``labels`` and ``embeddings`` of what features are called, by node; ``seed``: of the shuffled
    graphs.  Similarities of labels count where both have an embedding; other pairs take the mean of
    those.
    """
    flow = flow or influence(graph)
    chosen = _strongest(graph, flow, features)
    ends = end_profiles(graph, flow, chosen)
    similar, null = _beside_chance(graph, chosen, ends, embeddings or {}, seed)
    paths = Paths(graph)
    same = _same_feature(graph, chosen, paths)
    made = _agglomerated(similar - null.least, same, paths, paths.place_N[chosen])
    names = node_labels(graph, labels)
    groups = [chosen[np.array(each)] for each in made.groups if len(each) > 1]
    order = np.argsort([-flow.through_N[each].sum() for each in groups], kind="stable")
    groups = [_by_influence(groups[at], flow) for at in order]
    place_N = np.full(len(graph.nodes), -1)
    place_N[chosen] = np.arange(len(chosen))
    weights = group_edges(graph, [each.tolist() for each in groups], flow.through_N)
    return ProposedSupernodes(
        supernodes=[
            _proposed(each, place_N[each], graph, names, (similar, null), ends) for each in groups
        ],
        edges=_edges(weights),
        features=len(chosen),
        of_features=int(is_feature(graph).sum()),
        labelled=sum(int(node) in (embeddings or {}) for node in chosen),
        shuffles=_SHUFFLES,
        refused=made.refused,
    )


def _strongest(graph: Graph, flow: Influence, count: int) -> Ints:
    at = np.flatnonzero(is_feature(graph))
    return np.sort(at[np.argsort(-flow.through_N[at], kind="stable")][:count])


def _by_influence(group: Ints, flow: Influence) -> Ints:
    return group[np.argsort(-flow.through_N[group], kind="stable")]


def _label_cosines(
    chosen: Ints, embeddings: Mapping[int, npt.NDArray[np.floating]]
) -> Floats | None:
    """``[M, M]``; NaN of pairs without both embeddings, None without any pair."""
    own = [place for place, node in enumerate(chosen.tolist()) if node in embeddings]
    if len(own) < 2:
        return None
    known = cosines(np.stack([embeddings[int(chosen[place])] for place in own]))
    table = np.full((len(chosen), len(chosen)), np.nan)
    table[np.ix_(own, own)] = known
    return table


def _permuted(called: Floats | None, rng: np.random.Generator) -> Floats | None:
    """Labels dealt out anew among the features that have one."""
    if called is None:
        return None
    own = np.flatnonzero(~np.isnan(called.diagonal()))
    table = called.copy()
    mixed = rng.permutation(own)
    table[np.ix_(own, own)] = called[np.ix_(mixed, mixed)]
    return table


def _similar(fed: Floats, feeds: Floats, called: Floats | None) -> Floats:
    similar = alike(fed, feeds)
    if called is not None:
        pairs = called[np.triu_indices(len(called), 1)]
        similar = similar * np.where(np.isnan(called), np.nanmean(pairs), called)
    np.fill_diagonal(similar, 0.0)
    return similar


@dataclass(frozen=True)
class _Null:
    """What pairs of shuffled graphs come to."""

    least: Floats
    """``[M, M]``: similarity from which a pair counts, by the layers of both."""
    above_S: Floats
    """By how much the best pair of each shuffled graph is above that."""


def _beside_chance(
    graph: Graph,
    chosen: Ints,
    ends: tuple[EndProfiles, EndProfiles],
    embeddings: Mapping[int, npt.NDArray[np.floating]],
    seed: int,
) -> tuple[Floats, _Null]:
    """(similarities ``[M, M]``, what they are held against).

    In layers with few targets many pairs are alike by chance.  So the highest similarity of each
    pair of layers is measured in its own standard deviations over shuffled graphs, and in 95 % of
    those no pair of layers is further above its mean (balanced as in R. Beran, Journal of the
    American Statistical Association 83 (1988) 679).
    """
    called = _label_cosines(chosen, embeddings)
    rng = np.random.default_rng(seed)
    layer_M = graph.nodes.layer[chosen]
    low, high = np.minimum.outer(layer_M, layer_M), np.maximum.outer(layer_M, layer_M)
    _, block = np.unique(low * (graph.layers + 2) + high, return_inverse=True)
    order = np.argsort(block.ravel(), kind="stable")
    starts = np.flatnonzero(np.diff(block.ravel()[order], prepend=-1))

    def highest(similar: Floats) -> Floats:
        return np.maximum.reduceat(similar.ravel()[order], starts) if len(starts) else np.zeros(0)

    fed, feeds = ends
    own = _similar(fed.table(), feeds.table(), called)
    highest_SB = np.stack(
        [
            highest(_similar(fed.shuffled(rng), feeds.shuffled(rng), _permuted(called, rng)))
            for _ in range(_SHUFFLES)
        ]
    )
    mean_B, spread_B = highest_SB.mean(axis=0), np.maximum(highest_SB.std(axis=0), _LEAST_SPREAD)
    furthest_S = ((highest_SB - mean_B) / spread_B).max(axis=1, initial=0.0)
    allowed = float(np.quantile(furthest_S, _LEVEL, method="higher"))
    least_B = np.maximum(mean_B + allowed * spread_B, _LEAST)
    above_S = (highest_SB - least_B).max(axis=1, initial=-1.0)
    least = least_B[block.reshape(own.shape)] if len(starts) else np.zeros_like(own)
    return own, _Null(least, above_S)


def _same_feature(graph: Graph, chosen: Ints, paths: Paths) -> list[list[int]]:
    """Places of the chosen, one feature at adjacent tokens together."""
    nodes = graph.nodes
    columns = [nodes.position, nodes.layer, nodes.number, nodes.coder]
    order = np.lexsort([column[chosen] for column in columns])
    groups: list[list[int]] = []
    for place in order.tolist():
        node = int(chosen[place])
        last = groups[-1][-1] if groups else None
        if last is not None and _adjacent(graph, int(chosen[last]), node):
            first = int(paths.place_N[chosen[groups[-1][0]]])
            if paths.may_join(first, int(paths.place_N[node])):
                paths.join(first, int(paths.place_N[node]))
                groups[-1].append(place)
                continue
        groups.append([place])
    return groups


def _adjacent(graph: Graph, a: int, b: int) -> bool:
    nodes = graph.nodes
    same = all(column[a] == column[b] for column in (nodes.coder, nodes.number, nodes.layer))
    return bool(same and nodes.position[b] - nodes.position[a] == 1)


def _agglomerated(
    above: Floats, groups: Sequence[list[int]], paths: Paths, place_M: Ints
) -> _Grouped:
    """Average linkage of what similarities are above chance; a pair that a path forbids is tried
    again when groups have changed."""
    member = np.zeros((len(groups), len(above)))
    for number, each in enumerate(groups):
        member[number, each] = 1.0 / len(each)
    between = member @ above @ member.T
    between[np.tril_indices(len(groups))] = _GONE
    kept, sizes = [list(each) for each in groups], [len(each) for each in groups]
    refused: dict[tuple[int, int], float] = {}
    seen: set[tuple[int, int]] = set()
    while between.size:
        a, b = (int(each) for each in np.unravel_index(between.argmax(), between.shape))
        value = float(between[a, b])
        if value <= 0:
            break
        if not paths.may_join(int(place_M[kept[a][0]]), int(place_M[kept[b][0]])):
            refused[a, b] = value
            seen.add((kept[a][0], kept[b][0]))
            between[a, b] = _GONE
            continue
        paths.join(int(place_M[kept[a][0]]), int(place_M[kept[b][0]]))
        for pair, was in refused.items():
            between[pair] = was
        refused = {}
        _merge(between, a, b, sizes)
        kept[a] += kept[b]
        kept[b] = []
    return _Grouped([each for each in kept if each], len(seen))


def _merge(between: Floats, a: int, b: int, sizes: list[int]) -> None:
    """Similarities of group ``a`` after ``b`` (a < b) has become part of it; upper triangle."""
    whole = np.maximum(between, between.T)
    joined = (whole[a] * sizes[a] + whole[b] * sizes[b]) / (sizes[a] + sizes[b])
    joined[(whole[a] == _GONE) | (whole[b] == _GONE)] = _GONE
    between[a, a + 1 :], between[:a, a] = joined[a + 1 :], joined[:a]
    between[b, :] = between[:, b] = _GONE
    sizes[a] += sizes[b]


def _proposed(
    group: Ints,
    places: Ints,
    graph: Graph,
    names: Sequence[str],
    beside: tuple[Floats, _Null],
    ends: tuple[EndProfiles, EndProfiles],
) -> ProposedSupernode:
    nodes = graph.nodes
    features = {(int(nodes.coder[node]), int(nodes.number[node])) for node in group}
    one = len(features) == 1
    value, least, p = None, None, None
    if not one:
        pairs = np.ix_(places, places)
        similar, null = beside
        upper = np.triu_indices(len(places), 1)
        value, least = (float(each[pairs][upper].mean()) for each in (similar, null.least))
        p = (1 + int((null.above_S >= value - least).sum())) / (1 + len(null.above_S))
    fed, feeds = (_shared(graph, each, places, names) for each in ends)
    return ProposedSupernode(
        name=names[int(group[0])],
        nodes=group.tolist(),
        why="same feature" if one else "alike",
        similarity=value,
        least=least,
        p=p,
        fed_by=fed,
        feeds=feeds,
    )


def _shared(graph: Graph, end: EndProfiles, places: Ints, names: Sequence[str]) -> list[SharedEdge]:
    """What is at the other end of all members with one sign."""
    own = end.table()[places]
    common = (own > 0).all(axis=0) | (own < 0).all(axis=0)
    mean = np.where(common, own.mean(axis=0), 0.0)
    order = np.argsort(-np.abs(mean), kind="stable")[:_SHARED]
    shared = []
    for at in order[mean[order] != 0]:
        node = int(end.node_C[at])
        kind, layer = NodeKind(graph.nodes.kind[node]), int(graph.nodes.layer[node])
        # It stands for those of all tokens.
        label = names[node]
        if kind == NodeKind.error:
            label = error_label(graph, layer, int(graph.nodes.branch[node]))
        edge = SharedEdge(
            label=label, node=node, kind=kind.name, layer=layer, share=float(mean[at])
        )
        shared.append(edge)
    return shared


def _edges(weights: Floats) -> list[SupernodeEdge]:
    source, target = np.nonzero(weights)
    order = np.argsort(-np.abs(weights[source, target]), kind="stable")
    return [
        SupernodeEdge(
            source=int(source[at]),
            target=int(target[at]),
            weight=float(weights[source[at], target[at]]),
        )
        for at in order
    ]
