"""What nodes are called: none like another of a different layer or token."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from monosemy.graphs.graph import Branch, Graph, NodeKind, Nodes
from monosemy.graphs.listing import list_nodes, node_labels, site_labels
from monosemy.graphs.supernodes import propose_supernodes
from tests.support.graph_rows import texas
from tests.support.planted_groups import planted_groups


def _attended(graph: Graph) -> Graph:
    """Errors of odd layers are attention's."""
    nodes = graph.nodes
    odd = (nodes.kind == NodeKind.error) & (nodes.layer % 2 == 1)
    columns = (nodes.kind, nodes.layer, nodes.position, nodes.coder, nodes.number, nodes.value)
    branch = np.where(odd, Branch.attention, Branch.mlp)
    return replace(graph, nodes=Nodes(*columns, branch))


def test_errors_are_called_by_layer_and_token() -> None:
    graph = _attended(texas())
    errors = np.flatnonzero(graph.nodes.kind == NodeKind.error)
    called = node_labels(graph)
    assert max(Counter(called[node] for node in errors).values()) == 1
    assert {"layer 2 error  Texas", "layer 1 attention error <s>"} <= {*called}


def test_in_a_feature_circuit_layers_are_sites_and_features_are_their_saes() -> None:
    graph = texas()
    sites = [f"blocks.{layer}.hook_mlp_out" for layer in range(graph.layers)]
    circuit = replace(graph, about={"sites": sites})
    saes = [f"mlps-{layer}" for layer in range(graph.layers)]
    called = node_labels(circuit, site_labels(circuit, saes))
    for node in np.flatnonzero(graph.nodes.kind == NodeKind.feature).tolist():
        layer, latent = graph.nodes.layer[node], graph.nodes.number[node]
        assert called[node] == f"mlps-{layer}/{latent}"
    assert "blocks.2.hook_mlp_out error <s>" in called
    assert site_labels(graph, saes) == {}
    (only,) = list_nodes(circuit, site_labels(circuit, saes), search="mlps-3/1", count=1)[1]
    assert only.label.startswith("mlps-3/1")


def test_what_a_supernode_is_fed_by_is_named_by_its_layer() -> None:
    """At whatever token; with a node that it is."""
    planted, _ = planted_groups(noise=0.05)
    kinds = planted.nodes.kind.copy()
    kinds[kinds == NodeKind.token] = NodeKind.error
    nodes = replace(planted.nodes, kind=kinds, layer=planted.nodes.layer + 1)
    graph = replace(planted, nodes=nodes, layers=planted.layers + 1)
    shared = [
        edge
        for each in propose_supernodes(graph, 500).supernodes
        for edge in (*each.fed_by, *each.feeds)
    ]
    errors = [each for each in shared if each.kind == "error"]
    assert {each.label for each in errors} == {"layer 0 error"}
    for each in shared:
        assert NodeKind[each.kind] == nodes.kind[each.node] and each.layer == nodes.layer[each.node]
