"""Supernodes proposed: planted groups are met, noise is not, and no path leaves one and returns."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from monosemy.graphs.graph import Graph, NodeKind
from monosemy.graphs.grouping import Paths, group_edges
from monosemy.graphs.influence import influence
from monosemy.graphs.supernodes import propose_supernodes
from tests.support.graph_rows import texas
from tests.support.planted_groups import planted_groups
from tests.support.random_graphs import Edge, graph_of

PLANTED = 3 * 4 * 6
"""Pairs of features of one group: layers, groups, pairs of each."""
FEATURE, TOKEN, LOGIT = NodeKind.feature, NodeKind.token, NodeKind.logit


def pairs_of(graph: Graph, number: dict[str, int], **options: object) -> set[tuple[str, str]]:
    called = {node: name for name, node in number.items()}
    made = propose_supernodes(graph, 500, **options)  # type: ignore[arg-type]
    return {
        pair
        for each in made.supernodes
        for pair in combinations(sorted(called[node] for node in each.nodes), 2)
    }


@pytest.mark.parametrize("seed", range(3))
def test_planted_groups_are_met(seed: int) -> None:
    graph, number = planted_groups(seed, noise=0.1)
    pairs = pairs_of(graph, number)
    assert all(a[:2] == b[:2] and "-" not in a for a, b in pairs), pairs
    assert len(pairs) >= 0.8 * PLANTED


@pytest.mark.campaign
def test_noise_has_no_groups_but_at_the_level() -> None:
    """5 % of 60 graphs are 3; more than 8 are one time in 300."""
    met = sum(
        any(each.why == "alike" for each in propose_supernodes(texas(seed), seed=seed).supernodes)
        for seed in range(60)
    )
    assert met <= 8


def chain(back: bool) -> tuple[Graph, dict[str, int]]:
    """``f`` in layer 0 and ``g`` in layer 2 have the same profiles but for weak edges by way of
    ``m``; ``back``: from ``f`` to ``m`` to ``g``.  Beside each are features with profiles of their
    own."""
    rng = np.random.default_rng(0)
    beside = {layer: [f"{layer}-{one}" for one in range(12)] for layer in (0, 2)}
    kinds = {f"t{place}": (TOKEN, -1) for place in range(24)}
    kinds |= {name: (FEATURE, layer) for layer, names in beside.items() for name in names}
    kinds |= {"f": (FEATURE, 0), "m": (FEATURE, 1), "g": (FEATURE, 2)}
    kinds |= {f"h{place}": (FEATURE, 3) for place in range(24)} | {"x": (LOGIT, 4)}
    edges: list[Edge] = []
    for target in ("f", "g"):
        edges += [(f"t{place}", target, 2.0 + place) for place in range(6)]
        edges += [(target, f"h{place}", 2.5 - place) for place in range(6)]
    for name in (*beside[0], *beside[2]):
        edges += [(f"t{t}", name, float(rng.normal())) for t in rng.choice(24, 6, replace=False)]
        edges += [(name, f"h{h}", float(rng.normal())) for h in rng.choice(24, 6, replace=False)]
    edges += [("t7", "m", 1.0), ("f", "m", 0.05), ("m", "g" if back else "h7", 0.05)]
    edges += [(f"h{place}", "x", 1.0) for place in range(24)]
    return graph_of(kinds, edges, {"x": 1.0})


def test_a_path_that_leaves_and_returns_forbids_a_group() -> None:
    graph, number = chain(back=False)
    assert ("f", "g") in pairs_of(graph, number)
    graph, number = chain(back=True)
    made = propose_supernodes(graph, 500)
    assert all(not {number["f"], number["g"]} <= {*each.nodes} for each in made.supernodes)
    assert made.refused >= 1


def test_paths_know_what_joined_groups_lead_to() -> None:
    """a -> b -> c, d alone: with a and d together, d may no more be joined with c."""
    kinds = {name: (FEATURE, layer) for layer, name in enumerate("abc")} | {"d": (FEATURE, 0)}
    kinds |= {"x": (LOGIT, 3)}
    edges = [("a", "b", 1.0), ("b", "c", 1.0), ("c", "x", 1.0), ("d", "x", 1.0)]
    graph, number = graph_of(kinds, edges, {"x": 1.0})
    paths = Paths(graph)
    place = {name: int(paths.place_N[number[name]]) for name in "abcd"}
    assert paths.may_join(place["a"], place["b"]) and paths.may_join(place["c"], place["d"])
    assert not paths.may_join(place["a"], place["c"])
    paths.join(place["d"], place["a"])
    assert not paths.may_join(place["c"], place["d"])
    paths.join(place["d"], place["b"])
    assert paths.may_join(place["d"], place["c"])


@pytest.mark.parametrize("seed", range(4))
def test_groups_leave_no_cycle(seed: int) -> None:
    """Whatever is joined as long as it may be: the graph of groups can be put in an order."""
    graph = texas(seed)
    paths, rng = Paths(graph), np.random.default_rng(seed)
    features = np.flatnonzero(graph.nodes.kind == FEATURE)
    group = {int(each): int(each) for each in features}
    for _ in range(200):
        a, b = (group[int(each)] for each in rng.choice(features, 2, replace=False))
        if a != b and paths.may_join(int(paths.place_N[a]), int(paths.place_N[b])):
            paths.join(int(paths.place_N[a]), int(paths.place_N[b]))
            group = {node: a if own == b else own for node, own in group.items()}
    assert len({*group.values()}) < len(features)
    rows = graph.rows
    ends = zip(rows.source.tolist(), rows.target[rows.row_of_edge].tolist(), strict=True)
    edges = {(group[s], group[t]) for s, t in ends if s in group and t in group}
    edges = {(s, t) for s, t in edges if s != t}
    left = {*group.values()}
    while left:
        first = {each for each in left if not any(t == each and s in left for s, t in edges)}
        assert first, "a cycle of groups"
        left -= first


def test_one_feature_at_adjacent_tokens_is_one() -> None:
    graph = texas()
    nodes = graph.nodes
    feature = np.flatnonzero(nodes.kind == FEATURE)
    nodes.number[feature[:2]], nodes.layer[feature[:2]], nodes.coder[feature[:2]] = 777, 0, 0
    nodes.position[feature[:2]] = 3, 4
    made = propose_supernodes(graph, 500)
    (own,) = [each for each in made.supernodes if feature[0] in each.nodes]
    assert {*own.nodes} >= {*feature[:2].tolist()}
    nodes.position[feature[:2]] = 2, 4
    apart = propose_supernodes(graph, 500).supernodes
    assert not any({*feature[:2].tolist()} == {*each.nodes} for each in apart)


def test_edges_of_groups_are_summed_over_sources_and_averaged_over_targets() -> None:
    graph, number = graph_of(
        {"a": (FEATURE, 0), "b": (FEATURE, 0), "c": (FEATURE, 1), "d": (FEATURE, 1)}
        | {"x": (LOGIT, 2)},
        [("a", "c", 2.0), ("b", "c", -0.5), ("a", "d", 1.0), ("c", "x", 3.0), ("d", "x", 1.0)],
        {"x": 1.0},
    )
    groups = [[number["a"], number["b"]], [number["c"], number["d"]]]
    weights = group_edges(graph, groups, influence(graph).through_N)
    assert weights[0, 1] == pytest.approx(0.75 * 1.5 + 0.25 * 1.0)
    assert weights[1, 0] == weights[0, 0] == 0


def test_labels_that_differ_keep_features_apart() -> None:
    graph, number = planted_groups(noise=0.01)
    names = [name for name in number if name[0] in "abc"]
    own = {number[name]: np.eye(len(names))[place] for place, name in enumerate(names)}
    assert not pairs_of(graph, number, embeddings=own)
    groups = sorted({name[:2] for name in names})
    alike = {number[name]: np.eye(len(groups))[groups.index(name[:2])] for name in names}
    met = pairs_of(graph, number, embeddings=alike)
    assert met and all(a[:2] == b[:2] for a, b in met)


def test_small_graphs_have_none() -> None:
    graph, _ = graph_of({"t": (TOKEN, -1), "x": (LOGIT, 1)}, [("t", "x", 1.0)], {"x": 1.0})
    made = propose_supernodes(graph)
    assert made.supernodes == [] and made.edges == [] and made.features == 0
