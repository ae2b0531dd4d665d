"""SAEs of attention in a graph: features stand for what heads bring, and rows still add up."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from monosemy.attribution.linearised import FINAL, HeldSite
from monosemy.errors import DataError
from monosemy.graphs.ablation import (
    feature_sites,
    feature_values,
    goal_values,
    held_attention,
    skips_of,
    values_at,
    without_features,
)
from monosemy.graphs.circuit_runs import run_circuits
from monosemy.graphs.feature_edits import feature_edits
from monosemy.graphs.goals import Goal, token_logits
from monosemy.graphs.graph import Branch, NodeKind
from monosemy.graphs.influence import total_effects
from monosemy.graphs.linear_change import linear_change
from monosemy.graphs.listing import list_nodes
from monosemy.graphs.prompt import ReplacedPrompt, read_prompt
from monosemy.graphs.pruning import prune
from monosemy.graphs.replacement import ReplacementModel
from monosemy.graphs.run import make_graph
from monosemy.graphs.steering import steer_prompt
from monosemy.graphs.store import graph_bytes, graph_of_bytes
from monosemy.graphs.trace import TraceOptions, trace
from monosemy.graphs.transposed import TransposedPass
from monosemy.hosted_sae import HostedSAE
from monosemy.interchange.attribution_graph import export_graph
from monosemy.interchange.attribution_graph_reading import import_graph
from monosemy.models.host import HostModel
from monosemy.specs.graphs import GraphCheckSpec, GraphSpec, TokenLogits
from monosemy.specs.hooks import Hooks
from monosemy.specs.inference.graph_steering import GraphSteering, PlacedEdit
from tests.attribution.test_linearised import FAMILIES
from tests.graphs.test_rows import leaves_of
from tests.support.attribution import random_sae, some_ids, tiny_host_of
from tests.support.graph_coders import cross_layer, random_coder, transcoders

_LATER = pytest.mark.campaign
CASES = [
    pytest.param(family, site, marks=() if (family, site) in quick else _LATER)
    for quick in [{("gemma2", "attn.hook_z"), ("gpt2", "hook_attn_out")}]
    for family in FAMILIES
    for site in ("attn.hook_z", "hook_attn_out")
]
EXACT = TraceOptions(most_features=None, untraced=0.0, row_mass=1.0)


def attention_sae(host: HostModel, layer: int, kind: str = "attn.hook_z") -> HostedSAE:
    site = f"blocks.{layer}.{kind}"
    return HostedSAE.at(host, random_sae(host.site_width(site), seed=20 + layer), site)


def prompt_with(host: HostModel, kind: str, layers: tuple[int, ...] = (0, 2)) -> ReplacedPrompt:
    """Skip transcoders everywhere, SAEs of attention in some layers."""
    attention = [attention_sae(host, layer, kind) for layer in layers]
    return read_prompt(
        ReplacementModel(host, [*transcoders(host, skip=True), *attention]), some_ids(host)
    )


def targets_of(prompt: ReplacedPrompt) -> list[int]:
    """Features of attention and of MLPs, in every layer and of late tokens."""
    return [group.start + len(group) - 1 - at for group in prompt.features.groups for at in (0, 9)]


@pytest.mark.parametrize(("architecture", "kind"), CASES)
def test_rows_are_gradients_that_add_up(architecture: str, kind: str, tiny_tokenizer: Any) -> None:
    host = tiny_host_of(architecture, tiny_tokenizer)
    prompt = prompt_with(host, kind)
    edges, numbers = TransposedPass(prompt), targets_of(prompt)
    goals = token_logits(prompt, [5])
    rows = edges.rows([*goals, *numbers])
    off = (rows.edges_NB.double().sum(0) - rows.value_B).abs()
    assert float((off / rows.edges_NB.abs().sum(0)).max()) <= 1e-5
    active = prompt.features.activation_N[numbers]
    torch.testing.assert_close(rows.value_B[1:], active, rtol=1e-3, atol=1e-4)

    # By autograd: what the SAEs stand for are leaves, as MLPs' outputs are.
    held = [
        HeldSite(each.site, each.value_SW.clone().requires_grad_(), each.at_S)
        for each in held_attention(prompt)
    ]
    sources = edges.sources
    for column, target in [(0, goals[0]), *enumerate(numbers, start=1)]:
        sites = [FINAL] if isinstance(target, Goal) else feature_sites(prompt, target)
        made = prompt.linearised.forward(sites, leaves_of(prompt), skips_of(prompt), held)
        value = (
            goal_values(target, made, prompt.layers)[0]
            if isinstance(target, Goal)
            else feature_values(prompt, target, made)[0]
        )
        # Nothing leads from attention to the first of MLPs that read beside it; its edges are 0.
        at = [each.value_SW for each in held]
        slopes = (
            torch.autograd.grad(value, at, allow_unused=True, materialize_grads=True)
            if value.requires_grad
            else tuple(torch.zeros_like(each) for each in at)
        )
        for each, slope in zip(prompt.coded_attention.values(), slopes, strict=True):
            first = sources.attention_error(each.layer)
            own = rows.edges_NB[first : first + prompt.length, column]
            torch.testing.assert_close(own, (slope * each.error_TW).sum(-1), rtol=1e-3, atol=1e-5)
            (group,) = each.groups
            written = group.written(each.layer, 0, len(group))
            own = rows.edges_NB[group.start : group.start + len(group), column]
            expected = (written * slope[group.position_N]).sum(-1)
            torch.testing.assert_close(own, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("architecture", "kind"), CASES)
def test_a_feature_taken_away_moves_targets_by_its_edges(
    architecture: str, kind: str, tiny_tokenizer: Any
) -> None:
    host = tiny_host_of(architecture, tiny_tokenizer)
    prompt = prompt_with(host, kind)
    (goal,), numbers = token_logits(prompt, [5]), targets_of(prompt)
    rows = TransposedPass(prompt).rows([goal, *numbers])
    removed = [group.start + len(group) // 2 for group in prompt.features.groups]
    sites = list(dict.fromkeys([FINAL, *(s for n in numbers for s in feature_sites(prompt, n))]))
    deltas = without_features(prompt, [[], *([number] for number in removed)])
    values = values_at(prompt, deltas, sites, "all", 1 + len(removed))
    looked = [goal_values(goal, values, prompt.layers)]
    looked += [feature_values(prompt, number, values) for number in numbers]
    for column, each in enumerate(looked):
        mass = float(rows.edges_NB[:, column].abs().sum())
        for row, number in enumerate(removed, start=1):
            moved = float(each[row] - each[0])
            assert moved == pytest.approx(-float(rows.edges_NB[number, column]), abs=1e-5 * mass)
    everything = torch.ones(1, len(prompt.features), dtype=torch.bool)
    clean = float(looked[0][0])
    assert float(run_circuits(prompt, everything, goal)[0]) == pytest.approx(clean, abs=1e-3)
    held = values_at(prompt, {}, [FINAL], "mlps", 1)
    assert float(goal_values(goal, held, prompt.layers)[0]) == pytest.approx(clean, abs=1e-3)


def test_the_graph_has_both_branches_everywhere(tiny_tokenizer: Any) -> None:
    """Traced, pruned, stored, listed, and exported for viewers and read again."""
    host = tiny_host_of("llama", tiny_tokenizer)
    attention = [attention_sae(host, layer) for layer in (1, 2)]
    prompt = read_prompt(ReplacementModel(host, [cross_layer(host), *attention]), some_ids(host, 6))
    goals = token_logits(prompt, [5, 9])
    graph = trace(prompt, goals, EXACT)
    nodes = graph.nodes
    assert graph.rounding.max() <= 1e-5
    attends = nodes.branch == Branch.attention
    assert set(nodes.layer[attends].tolist()) == {1, 2}
    assert set(nodes.coder[attends & (nodes.kind == NodeKind.feature)].tolist()) == {1, 2}
    source, target = (
        nodes.at(graph.rows.source),
        nodes.at(graph.rows.target[graph.rows.row_of_edge]),
    )
    within = (source.layer == target.layer) & (source.kind == NodeKind.feature)
    assert within.any() and (source.branch[within] == Branch.attention).all()
    assert (target.branch[within] == Branch.mlp).all()

    pruned = prune(graph, 0.5, 0.9)
    gone = np.setdiff1d(np.flatnonzero(attends & (nodes.kind == NodeKind.feature)), pruned.kept)
    assert len(gone)
    kept = pruned.graph
    assert kept.rounding.max() <= 1e-5
    errors = (kept.nodes.kind == NodeKind.error) & (kept.nodes.branch == Branch.attention)
    assert errors.any()
    stored = graph_of_bytes(graph_bytes(kept), "g")
    assert np.array_equal(stored.nodes.branch, kept.nodes.branch)
    listed = list_nodes(kept)[1]
    assert {each.branch for each in listed} == {"attention", "mlp", None}
    labels = {each.label for each in list_nodes(graph)[1] if each.branch == "attention"}
    assert any(each.startswith(("1.attn/", "2.attn/")) for each in labels)
    errors_of = tuple(f"layer {layer} attention error" for layer in (1, 2))
    assert any(each.startswith(errors_of) for each in labels)

    sent = prune(graph, 1.0, 1.0).graph
    document = json.loads(json.dumps(export_graph(sent, "g", "tiny", "x")))
    ids = [node["node_id"] for node in document["nodes"]]
    assert len(set(ids)) == len(ids) and any("_lor_" in each for each in ids)
    back = import_graph(document).graph
    assert np.array_equal(back.nodes.branch, sent.nodes.branch) and back.level_N is None


def test_a_feature_that_goes_is_an_error_of_attention(tiny_tokenizer: Any) -> None:
    """What it gave stands with the error of its own branch, not with the MLP's of that layer."""
    host = tiny_host_of("llama", tiny_tokenizer)
    coders = [*transcoders(host, [2]), attention_sae(host, 2)]
    prompt = read_prompt(ReplacementModel(host, coders), some_ids(host, 6))
    graph = trace(prompt, token_logits(prompt, [5]), EXACT)
    nodes, goal = graph.nodes, graph.goals[0]
    kept = prune(graph, 1e-9, 1.0, pinned=np.flatnonzero(nodes.branch == Branch.mlp)).graph

    def given(which: Any, branch: Branch) -> float:
        row = which.row_of_node[which.goals[0]]
        part = slice(which.rows.start[row], which.rows.start[row + 1])
        source = which.nodes.at(which.rows.source[part])
        inner = np.isin(source.kind, (NodeKind.feature, NodeKind.error)) & (source.layer == 2)
        return float(which.rows.weight[part][inner & (source.branch == branch)].sum())

    assert not ((kept.nodes.kind == NodeKind.feature) & (kept.nodes.branch == 1)).any()
    assert goal == int(graph.goals[0])
    for branch in Branch:
        assert given(kept, branch) == pytest.approx(given(graph, branch), abs=1e-5)


def test_features_of_attention_are_steered_like_others(tiny_tokenizer: Any) -> None:
    """By the graph in one pass upwards, with its edges, and really."""
    host = tiny_host_of("llama", tiny_tokenizer)
    coders = [*transcoders(host, skip=True), *(attention_sae(host, each) for each in (0, 2))]
    prompt = read_prompt(ReplacementModel(host, coders), some_ids(host, 6))
    (goal,) = token_logits(prompt, [5])
    graph = trace(prompt, [goal], EXACT)
    effects = total_effects(graph)[0]
    features = prompt.features
    for number in np.flatnonzero(graph.nodes.branch[: len(features)])[[0, 5, -1]].tolist():
        where = {
            "coder": int(features.coder_N[number]),
            "latent": int(features.latent_N[number]),
            "position": int(features.position_N[number]),
        }
        away = feature_edits(prompt, [PlacedEdit(**where, mode="ablate")])
        scale = float(np.abs(graph.rows.weight).sum())
        whole, direct = (linear_change(away, following).goal(goal) for following in (True, False))
        assert whole == pytest.approx(-effects[number], abs=1e-6 * scale)
        row = dict(zip(*(each.tolist() for each in graph.edges_into(graph.goals[0])), strict=True))
        assert direct == pytest.approx(
            -row.get(number, 0.0), abs=1e-5 * sum(map(abs, row.values()))
        )
        held = steer_prompt(away, [goal], GraphSteering(held="all")).goals[0]
        assert held.after - held.before == pytest.approx(direct, abs=1e-4)
        assert steer_prompt(away, [goal], GraphSteering()).kl > 0
        same = feature_edits(prompt, [PlacedEdit(**where, mode="scale", strength=1.0)])
        assert steer_prompt(same, [goal], GraphSteering()).kl == pytest.approx(0.0, abs=1e-9)


def test_a_spec_goes_all_the_way_with_its_check(tiny_tokenizer: Any) -> None:
    host = tiny_host_of("llama", tiny_tokenizer)
    coders = [*transcoders(host), attention_sae(host, 1)]
    spec = GraphSpec(
        prompt="the king and the queen",
        goals=TokenLogits(tokens=[7]),
        check=GraphCheckSpec(nodes=3, edges=4, random_circuits=2, keep=None),
    )
    check = make_graph(host, coders, spec).summary.check
    assert check is not None and check.edges is not None
    for change in check.edges.changes:
        assert change.frozen == pytest.approx(change.predicted, abs=1e-4)


def test_sets_that_do_not_fit_are_refused(tiny_tokenizer: Any) -> None:
    host, other = (tiny_host_of("llama", tiny_tokenizer) for _ in range(2))
    z, again = attention_sae(host, 1), attention_sae(host, 1)
    with pytest.raises(DataError, match="another host model"):
        ReplacementModel(host, [attention_sae(other, 1)])
    for twice in (again, attention_sae(host, 1, "hook_attn_out")):
        with pytest.raises(DataError, match=r"Two coders of the set write blocks.1's attention"):
            ReplacementModel(host, [z, twice])
    both = [f"blocks.{layer}.attn.hook_z" for layer in (0, 1)]
    wide = random_sae(2 * host.site_width(both[0]))
    across = HostedSAE.at(host, random_coder(32, 32), both[0], both[1])
    for wrong in (HostedSAE(host, wide, Hooks.at(both, both)), across):
        with pytest.raises(DataError, match="one layer's attention"):
            ReplacementModel(host, [wrong])
    skipping = HostedSAE.at(host, random_coder(32, 32, skip=True), both[0], both[0])
    with pytest.raises(DataError, match="linear path"):
        ReplacementModel(host, [skipping])
