"""Attribution graphs in the viewers' JSON: valid, unique, there and back, and those of others."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema_rs
import numpy as np
import pytest

from monosemy.errors import DataError
from monosemy.graphs.graph import Graph, NodeKind
from monosemy.graphs.influence import influence
from monosemy.graphs.pruning import prune
from monosemy.interchange.attribution_graph import (
    GraphMarks,
    cantor,
    export_graph,
    node_ids,
    schema,
    uncantor,
)
from monosemy.interchange.attribution_graph_nodes import GraphFault
from monosemy.interchange.attribution_graph_reading import import_graph
from monosemy.interchange.feature_detail import feature_detail
from monosemy.interchange.records import ExampleRecord, FeatureRecord
from tests.support.random_graphs import random_graph


@pytest.fixture(scope="module")
def graph() -> Graph:
    return prune(random_graph(4, causal=True), 0.95, 0.98).graph


@pytest.fixture(scope="module")
def document(graph: Graph) -> dict[str, Any]:
    view = GraphMarks(pinned=(0, 2), supernodes=(("Texas", (1, 3)),))
    made = export_graph(graph, "a-graph", "my-model", "abcde", {0: 'says "hi"'}, view)
    return json.loads(json.dumps(made, allow_nan=False))  # type: ignore[no-any-return]


def test_it_is_valid_and_its_ids_are_unique(graph: Graph, document: dict[str, Any]) -> None:
    validator = jsonschema_rs.Draft7Validator(schema())
    assert [error.message for error in validator.iter_errors(document)] == []
    ids = [node["node_id"] for node in document["nodes"]]
    assert len(set(ids)) == len(ids) == len(graph.nodes)
    ends = {link[end] for link in document["links"] for end in ("source", "target")}
    assert ends <= set(ids)
    pairs = [(link["source"], link["target"]) for link in document["links"]]
    assert len(set(pairs)) == len(pairs)


def test_an_error_is_not_taken_for_a_latent_of_layer_0(graph: Graph) -> None:
    """Latent 1 of layer 0 and the error of layer 1, both at one token."""
    graph = copy.deepcopy(graph)
    nodes = graph.nodes
    error = np.flatnonzero((nodes.kind == NodeKind.error) & (nodes.layer == 1))[0]
    feature = np.flatnonzero((nodes.kind == NodeKind.feature) & (nodes.layer == 0))[0]
    nodes.number[feature], nodes.position[feature] = 1, nodes.position[error]
    names = node_ids(graph)
    assert names[feature] == f"0_1_{nodes.position[error]}" != names[error]


def test_there_and_back(graph: Graph, document: dict[str, Any]) -> None:
    back = import_graph(document)
    assert (back.slug, back.scan, back.prompt) == ("a-graph", "my-model", "abcde")
    assert back.labels == {0: 'says "hi"'} and back.notes == []
    assert back.view == GraphMarks(pinned=(0, 2), supernodes=(("Texas", (1, 3)),))
    for name in ("kind", "layer", "position", "number"):
        assert np.array_equal(getattr(back.graph.nodes, name), getattr(graph.nodes, name)), name
    assert (back.graph.ids, back.graph.goals) == (graph.ids, graph.goals)
    assert back.graph.goal_labels == graph.goal_labels
    for node in range(len(graph.nodes)):
        ours: dict[int, float] = {}
        for source, weight in zip(*graph.edges_into(node), strict=True):
            ours[source] = ours.get(source, 0.0) + weight
        theirs = dict(zip(*back.graph.edges_into(node), strict=True))
        assert theirs == pytest.approx(ours)
    assert back.graph.rounding.max() <= 1e-9
    assert influence(back.graph).replacement == pytest.approx(
        influence(graph).replacement, rel=1e-9
    )


def test_both_kinds_of_ids_are_read(document: dict[str, Any]) -> None:
    theirs = copy.deepcopy(document)
    del theirs["metadata"]["monosemy"]
    named = {}
    for node in theirs["nodes"]:
        if node["feature_type"] == "mlp reconstruction error":
            named[node["node_id"]] = f"0_{node['layer']}_{node['ctx_idx']}"
    for node in theirs["nodes"]:
        node["node_id"] = named.get(node["node_id"], node["node_id"])
    for link in theirs["links"]:
        for end in ("source", "target"):
            link[end] = named.get(link[end], link[end])
    back = import_graph(theirs).graph
    ours = import_graph(document).graph
    assert np.array_equal(back.nodes.kind, ours.nodes.kind)
    assert np.array_equal(back.nodes.number, ours.nodes.number)


def test_shared_ids_of_others_are_read_for_the_worse() -> None:
    """Links out of an id that an error shares with a feature are the error's."""
    document = _small()
    document["nodes"] += [
        _their_node("0_1_0", 1, "0", "cross layer transcoder"),
        _their_node("0_1_0", -1, "1", "mlp reconstruction error"),
    ]
    document["links"] += [
        {"source": "E_5_0", "target": "0_1_0", "weight": 2.0},
        {"source": "0_1_0", "target": "3_9_0", "weight": 4.0},
    ]
    back = import_graph(document)
    assert "share their ids" in back.notes[0]
    flow = influence(back.graph)
    assert flow.by_kind["error"] / flow.total == pytest.approx(4 / 5)


def _their_node(name: str, feature: int, layer: str, kind: str, **more: Any) -> dict[str, Any]:
    return {
        "node_id": name,
        "feature": feature,
        "layer": layer,
        "ctx_idx": 0,
        "feature_type": kind,
        "jsNodeId": name,
        "clerp": "",
        **more,
    }


def _small() -> dict[str, Any]:
    return {
        "metadata": {"slug": "s", "scan": "m", "prompt": "a", "prompt_tokens": ["a"]},
        "qParams": {},
        "nodes": [
            _their_node("E_5_0", 0, "E", "embedding"),
            _their_node("3_9_0", 9, "3", "logit", token_prob=0.5),
        ],
        "links": [{"source": "E_5_0", "target": "3_9_0", "weight": 1.0}],
    }


def test_features_are_read_by_id_or_by_either_kind_of_number() -> None:
    for version, name, number, expected in (
        (1, "1_7_0", cantor(1, 7), 7),
        (1, "someid", cantor(1, 7), 7),
        (None, "someid", 100007, 7),
        (None, "1_lor_12_0", None, 12),
    ):
        document = _small()
        if version:
            document["metadata"]["schema_version"] = version
        document["nodes"].append(_their_node(name, number, "1", "cross layer transcoder"))  # type: ignore[arg-type]
        document["links"].append({"source": name, "target": "3_9_0", "weight": 1.0})
        assert import_graph(document).graph.nodes.number[2] == expected


def test_edges_within_a_layer_are_ordered_by_their_ways() -> None:
    document = _small()
    document["nodes"] += [
        _their_node("1_lor_2_0", None, "1", "lorsa"),  # type: ignore[arg-type]
        _their_node("1_3_0", cantor(1, 3), "1", "cross layer transcoder"),
    ]
    document["links"] += [
        {"source": "E_5_0", "target": "1_lor_2_0", "weight": 1.0},
        {"source": "1_lor_2_0", "target": "1_3_0", "weight": 1.0},
        {"source": "1_3_0", "target": "3_9_0", "weight": 3.0},
    ]
    flow = influence(import_graph(document).graph)
    assert flow.through_N[2] == pytest.approx(0.75 * 0.5)
    document["links"].append({"source": "1_3_0", "target": "1_lor_2_0", "weight": 1.0})
    with pytest.raises(DataError, match=r"circle, through '1_(lor_2|3)_0', '1_(lor_2|3)_0'.$"):
        import_graph(document)


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ((), [], "JSON object"),
        (("metadata",), None, "'metadata'"),
        (("metadata", "slug"), 3, "slug"),
        (("metadata", "prompt_tokens"), "abc", "prompt_tokens"),
        (("nodes",), {}, "nodes"),
        (("nodes", 0), "x", "node_id"),
        (("nodes", 0, "ctx_idx"), 5, "ctx_idx"),
        (("nodes", 0, "ctx_idx"), True, "ctx_idx"),
        (("nodes", 0, "node_id"), "3_9_0", "Two nodes"),
        (("nodes", 0, "feature_type"), None, "feature_type"),
        (("nodes", 1, "feature_type"), "embedding", "no logit"),
        (("nodes", 1, "token_prob"), 1e400, "token_prob"),
        (("nodes", 0, "feature_type"), "something", "layer"),
        (("links",), 5, "links"),
        (("links", 0, "weight"), "1", "weight"),
        (("nodes", 0, "feature"), 10**30, "Node 'E_5_0': feature is 1000"),
        (("nodes", 1, "feature"), "abc", "feature is 'abc', not a whole number"),
        (("nodes", 1, "feature"), 2.5, "feature is 2.5"),
        (("nodes", 1, "feature"), {}, "feature is no number"),
        (("nodes", 1, "token_prob"), 7, "Node '3_9_0': token_prob is 7, no probability"),
        (("nodes", 1, "token_prob"), -1, "token_prob is -1, no probability"),
        (("nodes", 1, "activation"), -1e300, r"activation is -1e\+300; there it is at most"),
        (("links", 0, "weight"), 1e300, "link from 'E_5_0' to '3_9_0': weight is 1e"),
        (("links", 0, "source"), "3_9_0", "from a node to itself"),
        (("links", 0, "target"), "E_5_0", "into a token"),
    ],
)
def test_what_is_no_graph_is_refused(path: tuple[Any, ...], value: Any, match: str) -> None:
    document: Any = _small()
    if path:
        place = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
    else:
        document = value
    with pytest.raises(DataError, match=match):
        import_graph(document)


def _with_feature(kind: str = "cross layer transcoder", **more: Any) -> dict[str, Any]:
    """A feature of layer 1 at the second token, of two, that feeds the logit."""
    document = _small()
    document["metadata"]["prompt_tokens"] = ["a", "b"]
    feature = _their_node("1_7_1", cantor(1, 7), "1", kind, ctx_idx=1)
    document["nodes"].append(feature | more)
    document["nodes"][1]["ctx_idx"] = 1
    document["links"].append({"source": "1_7_1", "target": "3_9_0", "weight": 1.0})
    return document


@pytest.mark.parametrize("layer", ["-4", "99999999999", -1, 10_001, "E", 1.5, None])
def test_a_layer_that_is_none_is_told(layer: Any) -> None:
    with pytest.raises(
        GraphFault, match=r"layer is .*, not a whole number from 0 to 10000"
    ) as fault:
        import_graph(_with_feature(layer=layer))
    assert fault.value.path == "nodes.2"


@pytest.mark.parametrize(
    ("source", "target", "match"),
    [
        ("3_9_0", "1_7_1", "out of a logit"),
        ("late", "1_7_1", "from token 2 back to token 1"),
        ("late", "3_9_0", "from token 2 back to token 1"),
        ("1_7_1", "E_5_0", "into a token"),
        ("1_7_1", "1_7_1", "to itself"),
        ("1_7_1", "3_9_0", "is link 1 already"),
    ],
)
def test_a_link_that_no_model_has_is_refused_by_name(source: str, target: str, match: str) -> None:
    document = _with_feature()
    document["metadata"]["prompt_tokens"].append("c")
    document["nodes"].append(_their_node("late", 2, "E", "embedding", ctx_idx=2))
    document["links"].append({"source": source, "target": target, "weight": 1.0})
    with pytest.raises(GraphFault, match=f"from '{source}' to '{target}' .*{match}") as fault:
        import_graph(document)
    assert fault.value.path == "links.2"


def test_links_of_ids_that_peers_give_twice_may_stand_twice() -> None:
    """circuit-tracer writes a link of the error and one of layer 0's feature, with the same ids."""
    document = _small()
    document["nodes"] += [
        _their_node("0_1_0", 1, "0", "cross layer transcoder"),
        _their_node("0_1_0", -1, "1", "mlp reconstruction error"),
    ]
    document["links"] += [{"source": "0_1_0", "target": "3_9_0", "weight": w} for w in (4.0, 2.0)]
    back = import_graph(document)
    assert sorted(back.graph.edges_into(1)[1]) == [1.0, 2.0, 4.0]
    (note,) = back.notes
    assert "share their ids" in note


def test_what_is_odd_of_nodes_is_told() -> None:
    assert import_graph(_with_feature()).notes == []
    (note,) = import_graph(_with_feature("foo")).notes
    assert note.startswith("1 nodes were taken for features") and "'1_7_1', 'foo'" in note
    (note,) = import_graph(_with_feature(feature=cantor(1, 8))).notes
    assert "another number than their ids say" in note and "'1_7_1'" in note
    for number in (None, 7, 107, 100007):
        assert import_graph(_with_feature(feature=number)).notes == []
    document = _with_feature()
    document["nodes"][1]["token_prob"] = None
    back = import_graph(document)
    assert (
        back.graph.goal_weights.tolist() == [1.0] and "No logit has a probability" in back.notes[0]
    )


def test_differences_are_no_probabilities_and_come_back(graph: Graph) -> None:
    """Of goals that are no tokens: their value is no probability, their weight is ours."""
    changed = copy.deepcopy(graph)
    changed.nodes.value[changed.goals[0]] = -7.5
    document = export_graph(changed, "s", "m", "p")
    back = import_graph(document).graph
    assert back.nodes.value[back.goals[0]] == -7.5
    assert back.goal_weights.tolist() == graph.goal_weights.tolist()
    document["metadata"]["monosemy"]["goals"][0]["weight"] = -1
    with pytest.raises(GraphFault, match="weight is -1, below 0") as fault:
        import_graph(document)
    assert fault.value.path == "metadata.monosemy"


def test_links_and_pins_to_nothing_are_left_out_and_told() -> None:
    document = _small()
    document["links"].append({"source": "9_9_9", "target": "3_9_0", "weight": 1.0})
    document["qParams"] = {"pinnedIds": ["gone", 4], "supernodes": [["g", "E_5_0", "gone"], 3]}
    back = import_graph(document)
    assert len(back.notes) == 2 and back.view.supernodes == (("g", (0,)),)


def test_pairs_and_their_numbers() -> None:
    for pair in [(0, 0), (3, 14), (99, 2**22), (25, 98_303)]:
        assert uncantor(cantor(*pair)) == pair
        assert float(cantor(*pair)).is_integer()
    with pytest.raises(ValueError, match="0 or more"):
        uncantor(-1)


def test_the_detail_of_a_feature() -> None:
    record = FeatureRecord(
        7,
        density=0.01,
        max_activation=2.0,
        promoted=((" a", 1.0), (" b", 0.5)),
        suppressed=((" c", -1.0),),
        examples=(
            ExampleRecord(("x", "y"), (0.0, 2.0), 1),
            ExampleRecord(("z",), (0.5,), 0, quantile=3),
            ExampleRecord(("w",), (0.7,), 0, quantile=9),
        ),
    )
    detail = feature_detail(record, layer=2)
    assert detail["index"] == cantor(2, 7)
    names = [each["quantile_name"] for each in detail["examples_quantiles"]]
    assert names == ["Top activations", "Quantile 9", "Quantile 3"]
    example = detail["examples_quantiles"][0]["examples"][0]
    assert example["tokens_acts_list"] == [0.0, 2.0] and example["train_token_ind"] == 1
    assert detail["top_logits"] == [" a", " b"] and detail["bottom_logits"] == [" c"]
