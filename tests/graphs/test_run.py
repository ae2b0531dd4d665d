"""A spec becomes a graph; nodes and edges are listed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from monosemy.errors import DataError
from monosemy.graphs.graph import NodeKind
from monosemy.graphs.influence import influence
from monosemy.graphs.listing import list_edges, list_nodes
from monosemy.graphs.run import MadeGraph, make_graph
from monosemy.models.host import HostModel
from monosemy.progress import Reporter
from monosemy.specs.graphs import GraphSpec
from tests.support.attribution import tiny_host_of
from tests.support.graph_coders import transcoders
from tests.support.random_graphs import random_graph

PROMPT = "the small bird sang"


@pytest.fixture(scope="module")
def host(tiny_tokenizer: Any) -> HostModel:
    return tiny_host_of("llama", tiny_tokenizer)


class _Lines(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.fields: list[dict[str, Any]] = []

    def log(self, message: str, **fields: Any) -> None:
        self.lines.append(message)
        self.fields.append(fields)


@pytest.fixture(scope="module")
def made(host: HostModel) -> MadeGraph:
    spec = GraphSpec.model_validate(
        {
            "prompt": PROMPT,
            "goals": {"of": "top", "mass": 0.2, "most": 2},
            "check": {"nodes": 2, "edges": 2, "random_circuits": 2},
        }
    )
    lines = _Lines()
    made = make_graph(host, transcoders(host), spec, lines)
    assert "rows" in lines.lines[0] and lines.fields[0] == {}, "a line says it in words"
    return made


def test_a_spec_becomes_a_graph_with_scores_and_a_check(made: MadeGraph) -> None:
    summary = made.summary
    assert "".join(summary.tokens).endswith(PROMPT)
    assert len(summary.goals) == len(made.whole.goals) <= 2
    assert summary.rounding <= 1e-5 and summary.untraced <= 0.01
    assert summary.pruned.replacement <= summary.whole.replacement
    assert summary.nodes == len(made.pruned.graph.nodes) < len(made.whole.nodes)
    assert summary.check is not None and summary.check.goal == summary.goals[0].label
    assert type(summary).model_validate_json(summary.model_dump_json()) == summary


@pytest.mark.parametrize(
    "goals",
    [
        {"of": "tokens", "tokens": [5, "e"]},
        {"of": "difference", "token": "e", "other": 7},
        {"of": "direction", "vector": [1.0] * 32, "site": "blocks.1.hook_resid_post"},
    ],
    ids=lambda goals: goals["of"],
)
def test_goals_of_every_kind_by_a_spec(goals: dict[str, Any], host: HostModel) -> None:
    spec = GraphSpec(
        prompt=PROMPT,
        goals=goals,  # type: ignore[arg-type]
        check=None,
        trace={"features": 3},  # type: ignore[arg-type]
    )
    made = make_graph(host, transcoders(host), spec)
    assert len(made.summary.goals) == len(goals.get("tokens", [0]))
    assert made.summary.traced == 3 and made.summary.check is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"goals": {"of": "tokens", "tokens": ["several words"]}}, "tokens of llama; a logit"),
        ({"goals": {"of": "tokens", "tokens": [10**6]}}, "none is 1000000"),
        ({"goals": {"of": "direction", "vector": [1.0], "site": "blocks.1.hook_resid_pre"}}, "32"),
        ({"prompt": "word " * 400}, "reads 128 at once"),
    ],
)
def test_what_cannot_be_done_is_refused(
    change: dict[str, Any], match: str, host: HostModel
) -> None:
    spec = GraphSpec.model_validate({"prompt": PROMPT, "check": None, **change})
    with pytest.raises(DataError, match=match):
        make_graph(host, transcoders(host), spec)


def test_too_much_memory_is_refused_before_it_is_taken(host: HostModel) -> None:
    with pytest.raises(DataError, match="of memory; there are"):
        make_graph(host, transcoders(host), GraphSpec(prompt=PROMPT), allowed=1000)


@pytest.mark.parametrize(
    "spec",
    [
        {"prompt": ""},
        {"prompt": "a", "goals": {"of": "difference", "token": 1, "other": 1}},
        {"prompt": "a", "goals": {"of": "tokens", "tokens": []}},
        {"prompt": "a", "pruning": {"nodes": 0}},
        {"prompt": "a", "trace": {"batch": True}},
        {"prompt": "a", "unknown": 1},
    ],
)
def test_specs_that_are_none(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GraphSpec.model_validate(spec)


def test_nodes_are_listed_by_influence_and_found_by_words() -> None:
    graph = random_graph(3)
    total, page = list_nodes(graph, kinds=[NodeKind.feature], first=2, count=5)
    through = influence(graph).through_N[:72]
    assert total == 72
    assert [each.node for each in page] == np.argsort(-through, kind="stable")[2:7].tolist()
    positive, negative = graph.signed_masses()
    assert (page[0].positive, page[0].negative) == (positive[page[0].node], negative[page[0].node])
    _, named = list_nodes(graph, labels={7: "Birds"}, search="bird")
    assert [each.node for each in named] == [7]
    _, there = list_nodes(graph, position=2, search="C", kinds=[NodeKind.token])
    assert [(each.kind, each.label) for each in there] == [("token", "token c")]
    assert list_nodes(graph, layer=3, kinds=[NodeKind.error])[0] == 5


def test_edges_of_a_node_are_listed_the_largest_first() -> None:
    graph = random_graph(3)
    into = list_edges(graph, graph.goals[0])
    sizes = [abs(edge.weight) for edge in into[1]]
    assert into[0] == len(sizes) and sizes == sorted(sizes, reverse=True)
    assert all(edge.target == graph.goals[0] for edge in into[1])
    total, out = list_edges(graph, 3, "out", first=1, count=2)
    assert total > 2 and len(out) == 2 and all(edge.source == 3 for edge in out)
    assert list_edges(graph, 100) == (0, [])  # a source has no inputs
    with pytest.raises(IndexError, match="none is number"):
        list_edges(graph, 10**6)
