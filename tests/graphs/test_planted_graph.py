"""A graph whose every number is known beforehand."""

from __future__ import annotations

import pytest
import torch

from monosemy.graphs.goals import token_logits
from monosemy.graphs.graph import Graph, NodeKind
from monosemy.graphs.influence import influence, total_effects
from monosemy.graphs.trace import TraceOptions, trace
from tests.support.planted_graphs import (
    AUSTIN,
    BOS,
    CAPITAL,
    DALLAS,
    IS,
    planted_host,
    planted_prompt,
)


@pytest.fixture(scope="module")
def graph() -> Graph:
    prompt = planted_prompt()
    goals = token_logits(prompt, [AUSTIN, DALLAS])
    assert prompt.logits_V[[AUSTIN, DALLAS]].tolist() == pytest.approx([2.2, 0.3])
    goals = [
        type(goals[0])(**{**vars(goal), "weight": weight})
        for goal, weight in zip(goals, (1.0, 0.0), strict=True)
    ]
    return trace(prompt, goals, TraceOptions(untraced=0.0, row_mass=1.0))


def node(graph: Graph, kind: NodeKind, layer: int, position: int, number: int | None = None) -> int:
    nodes = graph.nodes
    same = (nodes.kind == kind) & (nodes.layer == layer) & (nodes.position == position)
    if number is not None:
        same &= nodes.number == number
    (at,) = same.nonzero()[0]
    return int(at)


def edges(graph: Graph, target: int) -> dict[int, float]:
    sources, weights = graph.edges_into(target)
    return {int(s): float(w) for s, w in zip(sources, weights, strict=True) if abs(w) > 1e-6}


def test_every_edge_is_as_planted(graph: Graph) -> None:
    f00 = node(graph, NodeKind.feature, 0, 1, 0)
    f02 = node(graph, NodeKind.feature, 0, 2, 1)
    f10 = node(graph, NodeKind.feature, 1, 3, 0)
    dallas, capital = (node(graph, NodeKind.token, -1, at) for at in (1, 2))
    error = node(graph, NodeKind.error, 0, 1)
    bias = int((graph.nodes.kind == NodeKind.bias).nonzero()[0][0])
    austin, to_dallas = graph.goals
    assert edges(graph, f00) == pytest.approx({dallas: 2.0, bias: -1.0}, abs=1e-5)
    assert edges(graph, f02) == pytest.approx({capital: 2.0, bias: -1.0}, abs=1e-5)
    assert edges(graph, f10) == pytest.approx(
        {f00: 1.2, f02: 0.9, error: 0.2, bias: -1.2}, abs=1e-5
    )
    assert edges(graph, austin) == pytest.approx({f10: 1.885714, dallas: -0.042857}, abs=1e-5)
    assert edges(graph, to_dallas) == pytest.approx({f10: -0.314286, dallas: 0.257143}, abs=1e-5)
    assert graph.rows.value[0] == pytest.approx(1.842857, abs=1e-5)
    assert graph.rounding.max() <= 1e-6
    positive, negative = graph.signed_masses()
    assert (positive[austin], negative[austin]) == pytest.approx((1.885714, -0.042857), abs=1e-5)


def test_influence_and_scores_are_as_planted(graph: Graph) -> None:
    flow = influence(graph)
    through = {
        (NodeKind.feature, 1, 3): 0.97778,
        (NodeKind.feature, 0, 1): 0.51014,
        (NodeKind.feature, 0, 2): 0.38261,
        (NodeKind.token, -1, 1): 0.53237,
        (NodeKind.token, -1, 2): 0.38261,
        (NodeKind.error, 0, 1): 0.08502,
    }
    for (kind, layer, at), value in through.items():
        assert flow.through_N[node(graph, kind, layer, at)] == pytest.approx(value, abs=1e-5)
    assert flow.replacement == pytest.approx(0.91498, abs=1e-5)
    assert flow.completeness == pytest.approx(0.97038, abs=1e-5)
    assert flow.completeness_ct == pytest.approx(0.97803, abs=1e-5)
    assert sum(flow.by_kind.values()) == pytest.approx(1.0, abs=1e-12)


def test_taking_a_feature_away_is_predicted_by_its_paths(graph: Graph) -> None:
    """F0_0 away: F1_0 would be -.1, so that by the graph Austin loses 2.4 of its 2.2."""
    f00 = node(graph, NodeKind.feature, 0, 1, 0)
    effect = total_effects(graph)[0, f00]
    # Centred: 6/7 of what is added to Austin itself.
    assert effect * 7 / 6 == pytest.approx(2.4, abs=1e-5)


def test_the_planted_host_is_what_it_says() -> None:
    host = planted_host()
    ids = torch.tensor([[BOS, DALLAS, CAPITAL, IS]])
    logits = host.logits(ids, torch.ones_like(ids))[0, -1]
    assert logits.tolist() == pytest.approx([0, 0.3, 0, 0, 2.2, 0, 0], abs=1e-6)
