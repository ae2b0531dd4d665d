"""``monosemy.graph`` and runs of kind ``graph`` in this process."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import monosemy
from monosemy.errors import DataError, SpecError
from monosemy.feature_circuits.kept_circuit import KeptFeatureCircuit
from monosemy.graphs.graph import NodeKind
from monosemy.graphs.store import read_graph
from monosemy.graphs.traced import KeptGraph, TracedGraph
from monosemy.interchange.attribution_graph_reading import import_graph
from monosemy.progress import SILENT
from monosemy.specs import TextSpec
from monosemy.specs.circuits import IndirectObjectTask
from monosemy.specs.feature_circuits import FeatureCircuitSpec
from tests.support.feature_circuit_rows import circuit_summary

PROMPT = "the old king sat in the"
SMALL = {"check": {"nodes": 2, "edges": 2, "random_circuits": 1}, "trace": {"features": 40}}


@pytest.fixture(scope="module")
def home(host_folder: Path, tiny_text: TextSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a set ``tc`` of two transcoders."""
    home = tmp_path_factory.mktemp("home")
    training = {"tokens": 600, "batch_tokens": 100, "buffer_tokens": 400, "warmup_steps": 0}
    monosemy.run(
        {
            "kind": "sweep",
            "name": "tc",
            "model": {"name": str(host_folder), "dtype": "float32", "device": "cpu"},
            "text": tiny_text.model_dump(),
            "sites": ["blocks.*.mlp.hook_in"],
            "writes": "blocks.*.hook_mlp_out",
            "layers": "1-2",
            "saes": [{"d_sae": 32, "k": 4}],
            "training": {"frozen_decoder_baseline": False, **training},
        },
        home,
        reporter=SILENT,
    )
    return home


@pytest.fixture(scope="module")
def made(home: Path) -> TracedGraph:
    return monosemy.graph(PROMPT, "tc", home, reporter=SILENT, **SMALL)


def test_a_graph_is_looked_at(made: TracedGraph, tmp_path: Path) -> None:
    summary = made.summary
    assert len(made.saes) == 2 and made.graph.about["host"]["fingerprint"]
    assert summary.traced == 40 and summary.rounding <= 1e-5
    nodes = made.nodes("feature", limit=5)
    assert [each.influence for each in nodes] == sorted(
        (each.influence for each in nodes), reverse=True
    )
    assert len(made.nodes()) == summary.nodes
    edges = made.edges(made.graph.goals[0], limit=3)
    assert abs(edges[0].weight) >= abs(edges[-1].weight)
    drawn = made.drawing(nodes=0.5)
    assert len(drawn.node) < summary.nodes and 0 < drawn.kept.influence < 1
    text, page = repr(made), made._repr_html_()
    assert PROMPT in text and f"replacement {summary.pruned.replacement:.3f}" in text
    assert "real change per predicted" in text and nodes[0].label in page
    again = import_graph(json.loads(made.save(tmp_path / "g.json").read_text()))
    assert again.prompt == PROMPT and len(again.graph.nodes) == summary.nodes
    assert len(read_graph(made.save(tmp_path / "g.npz")).nodes) == summary.nodes
    with pytest.raises(DataError, match="no kind of node"):
        made.nodes("neuron")
    with pytest.raises(DataError, match="no such node"):
        made.edges(10**6)


def test_features_are_changed_in_its_prompt(home: Path, made: TracedGraph) -> None:
    node = made.nodes("feature", limit=1)[0]
    answer = monosemy.steer_graph(made, [{"node": node.node}], home, reporter=SILENT)
    (edited,) = answer.edited
    assert (edited.node, edited.after) == (node.node, 0)
    assert edited.before == pytest.approx(node.value, rel=1e-4)
    assert [each.label for each in answer.goals] == list(made.graph.goal_labels)
    named = {"sae": made.saes[node.coder].name, "latent": node.latent, "position": node.position}
    again = monosemy.steer_graph(made, [named], home, reporter=SILENT, top=3, features=0)
    assert again.goals == answer.goals and again.features == []
    folders = [each.id for each in made.saes]
    held = monosemy.steer_graph(made, [named], home, folders, SILENT, held="all")
    for each in held.goals:
        assert each.after - each.before == pytest.approx(each.direct, rel=1e-3, abs=1e-5)
    for wrong, fault, words in (
        ({"edits": [{"node": 10**6}]}, SpecError, "edits.0.node"),
        ({"edits": {"node": 1}}, SpecError, "a list of edits"),
        ({"edits": [named], "hold": "all"}, SpecError, "did you mean 'held'"),
        ({"edits": [named], "saes": folders[::-1]}, DataError, "these SAEs are others"),
        ({"edits": [{**named, "position": 0}]}, DataError, "does not take token 0"),
    ):
        with pytest.raises(fault, match=words):
            monosemy.steer_graph(made, home=home, reporter=SILENT, **wrong)


def test_attention_behind_it_is_told(home: Path, made: TracedGraph) -> None:
    goal = made.graph.goals[0]
    edge = next(e for e in made.edges(goal) if made.graph.nodes.kind[e.source] == NodeKind.token)
    heads_of_edge = monosemy.graph_heads(made, goal, edge.source, home, reporter=SILENT)
    assert heads_of_edge.value == pytest.approx(edge.weight, rel=1e-2, abs=1e-5)
    for layer in heads_of_edge.layers:
        assert layer.heads + layer.bypass == pytest.approx(heads_of_edge.value, rel=1e-3, abs=1e-5)
    score = monosemy.graph_score(made, 1, 0, 3, 1, home, listed=4, reporter=SILENT)
    assert sum(each.score for each in score.kinds) == pytest.approx(score.score, rel=1e-4)
    with pytest.raises(SpecError, match="has nodes 0 to"):
        monosemy.graph_heads(made, 10**6, 0, home, reporter=SILENT)
    with pytest.raises(SpecError, match="give source or token"):
        monosemy.graph_heads(made, goal, home=home, reporter=SILENT)
    with pytest.raises(DataError, match="none is number 99"):
        monosemy.graph_score(made, 1, 99, 3, 1, home, reporter=SILENT)


def test_names_of_strangers_do_not_become_markup(made: TracedGraph) -> None:
    odd = replace(made, model="<b>host</b>", spec=made.spec.model_copy(update={"prompt": "<i>"}))
    assert "<b>" not in odd._repr_html_() and "<i>" not in odd._repr_html_()


def test_a_run_of_the_kind_is_the_same_graph(home: Path, made: TracedGraph) -> None:
    ran = monosemy.run(
        {"kind": "graph", "set": "tc", "prompt": PROMPT, **SMALL}, home, reporter=SILENT
    )
    stored = read_graph(ran["file"])
    assert np.array_equal(stored.nodes.number, made.graph.nodes.number)
    assert len(stored.rows.source) == len(made.graph.rows.source)
    assert ran["pruned"] == made.summary.pruned.model_dump()
    assert made.summary.check is not None
    assert ran["check"] == made.summary.check.model_dump(mode="json")
    named = monosemy.graph(
        PROMPT, [each.id for each in made.saes], home, reporter=SILENT, check=None
    )
    assert [each.digest for each in named.saes] == [each.digest for each in made.saes]


@pytest.mark.parametrize(
    ("saes", "options", "words"),
    [
        ("nothing", {}, "No set is called 'nothing'"),
        (3, {}, "it takes a list of SAEs, not 3"),
        ([], {}, "give either set"),
        (["nothing"], {}, "No SAE is called 'nothing'"),
        ("tc", {"prun": {}}, "did you mean 'pruning'"),
        ("tc", {"prompt": ""}, "prompt"),
        ("tc", {"goals": {"of": "tokens", "tokens": ["of many words"]}}, "a logit is of one"),
    ],
)
def test_what_is_asked_for_wrongly(
    home: Path, saes: Any, options: dict[str, Any], words: str
) -> None:
    prompt = options.pop("prompt", PROMPT)
    with pytest.raises((SpecError, DataError), match=words):
        monosemy.graph(prompt, saes, home, reporter=SILENT, **options)


def test_several_prompts_and_what_they_share(home: Path, made: TracedGraph) -> None:
    prompts = [PROMPT, "an old king sat in the"]
    options = {"check": None, "trace": {"features": 40}}
    both = monosemy.graph(prompts, "tc", home, reporter=SILENT, **options)
    assert [each.spec.prompt for each in both] == prompts and len(both[:1]) == 1
    assert "old king" in repr(both) and PROMPT in both._repr_html_()
    shared = both.common(least=2)
    assert shared.n == 2 and shared.has_null and shared.features > 0
    assert shared.overlap.within > 0
    first = next(each for each in shared.units if each.kind == "feature")
    nodes = both[0].graph.nodes
    assert ((nodes.coder == first.coder) & (nodes.number == first.latent)).any()
    beside = both.common(against=[made], align="end")
    assert beside.n_against == 1 and beside.align == "end"
    assert made.supernodes().features <= 40
    with pytest.raises(DataError, match="two graphs"):
        both[:1].common()
    with pytest.raises(DataError, match="least"):
        both.common(least=3)
    elsewhere = replace(made, saes=[made.saes[0]])
    with pytest.raises(DataError, match="through other SAEs"):
        both.common(against=[elsewhere])
    circuit = KeptFeatureCircuit(
        **{each.name: getattr(made, each.name) for each in fields(KeptGraph)},
        spec=FeatureCircuitSpec(pairs=IndirectObjectTask(count=40)),
        circuit=circuit_summary(),
    )
    with pytest.raises(DataError, match="feature circuit is of pairs"):
        both.common(against=[circuit])
