"""Influence by one pass, what it conserves, and pruning that never flatters."""

from __future__ import annotations

import numpy as np
import pytest

from monosemy.graphs.graph import Graph, NodeKind
from monosemy.graphs.influence import influence
from monosemy.graphs.pruning import prune
from tests.support.random_graphs import graph_of, random_graph


def by_solving(graph: Graph) -> np.ndarray:
    count, rows = len(graph.nodes), graph.rows
    shares = np.zeros((count, count))
    np.add.at(shares, (rows.target[rows.row_of_edge], rows.source), influence(graph).share_E)
    start = np.zeros(count)
    start[list(graph.goals)] = graph.goal_weights
    return np.linalg.solve(np.eye(count) - shares.T, start)


@pytest.mark.parametrize("seed", range(3))
def test_one_pass_is_the_solution_and_nothing_is_lost(seed: int) -> None:
    graph = random_graph(seed)
    flow = influence(graph)
    np.testing.assert_allclose(flow.through_N, by_solving(graph), rtol=1e-6, atol=1e-9)
    assert sum(flow.by_kind.values()) == pytest.approx(flow.total, abs=1e-6)
    with_biases = influence(graph, biases=True)
    assert with_biases.by_kind["bias"] > 0
    assert sum(with_biases.by_kind.values()) == pytest.approx(flow.total, abs=1e-6)


def test_a_graph_of_errors_scores_nothing() -> None:
    kinds = {"e0": (NodeKind.error, 0), "e1": (NodeKind.error, 1), "out": (NodeKind.logit, 2)}
    graph, _ = graph_of(kinds, [("e0", "out", 1.0), ("e1", "out", -2.0)], {"out": 0.9})
    flow = influence(graph)
    assert flow.replacement == 0 and flow.completeness == 0
    assert flow.completeness_ct == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(4))
def test_pruning_never_looks_better_than_the_whole(seed: int) -> None:
    graph = random_graph(seed)
    whole = influence(graph)
    for nodes in (0.95, 0.7, 0.4):
        for edges in (1.0, 0.9, 0.6):
            pruned = prune(graph, nodes, edges).graph
            flow = influence(pruned)
            assert flow.replacement <= whole.replacement + 1e-12
            assert flow.completeness <= whole.completeness + 1e-12
            assert sum(flow.by_kind.values()) == pytest.approx(whole.total, abs=1e-9)
            assert pruned.rounding.max() <= 1e-9  # what is left still adds up
            assert len(pruned.nodes) < len(graph.nodes)


def test_a_graph_that_is_kept_whole_keeps_its_scores() -> None:
    graph = random_graph(9)
    whole, kept = influence(graph), influence(prune(graph, 1.0, 1.0).graph)
    assert kept.replacement == pytest.approx(whole.replacement)
    assert kept.completeness == pytest.approx(whole.completeness)


def test_naive_pruning_would_flatter() -> None:
    """Where features that go take their edges along, the rest looks better: so they do not."""
    graph = random_graph(0)
    pruned = prune(graph, 0.4, 1.0)
    kept = np.zeros(len(graph.nodes), bool)
    kept[pruned.kept] = True
    rows = graph.rows
    edges = kept[rows.source] & kept[rows.target[rows.row_of_edge]]
    weight = np.where(edges, rows.weight, 0.0)
    naive = graph.with_rows(
        type(rows)(
            rows.target,
            rows.start,
            rows.source,
            weight,
            np.zeros(len(rows)),
            np.zeros(len(rows)),
            rows.value,
        )
    )
    assert influence(naive).replacement > influence(pruned.graph).replacement + 0.05


def test_features_without_a_way_are_dropped_and_pins_are_not() -> None:
    graph = random_graph(2)
    small = np.argsort(influence(graph).through_N[:72])[:1]
    assert small[0] in prune(graph, 0.3, 0.5, pinned=small).kept
    assert small[0] not in prune(graph, 0.3, 0.5).kept
    pruned = prune(graph, 0.5, 0.5).graph
    features = np.flatnonzero(pruned.nodes.kind == NodeKind.feature)
    assert np.isin(features, pruned.rows.source).all()


def test_a_cancelled_error_is_not_hidden_by_merging() -> None:
    """An error of +1.5 and a feature of -1 at its place: merged, both still count."""
    kinds = {
        "a": (NodeKind.feature, 0),
        "e": (NodeKind.error, 0),
        "t": (NodeKind.token, -1),
        "out": (NodeKind.logit, 1),
    }
    edges = [("a", "out", -1.0), ("e", "out", 1.5), ("t", "out", 4.0), ("t", "a", 1.0)]
    graph, _ = graph_of(kinds, edges, {"out": 1.0})
    assert influence(graph).replacement == pytest.approx(5 / 6.5)
    pruned = prune(graph, 1e-9, 1.0)
    assert influence(pruned.graph).replacement == pytest.approx(4 / 6.5)


def test_shares_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="nodes"):
        prune(random_graph(1), nodes=0.0)
