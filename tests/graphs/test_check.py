"""Graphs against the host: what holds exactly, what a check says, and that it can say no."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from monosemy.errors import DataError
from monosemy.graphs.ablation import goal_values, values_at, without_errors, without_features
from monosemy.graphs.check import check_graph
from monosemy.graphs.circuit_runs import run_circuits
from monosemy.graphs.circuit_search import search_circuit
from monosemy.graphs.goals import Goal, logit_difference, token_logits
from monosemy.graphs.graph import Graph, NodeKind, Nodes, Rows
from monosemy.graphs.prompt import ReplacedPrompt, read_prompt
from monosemy.graphs.pruning import prune
from monosemy.graphs.trace import TraceOptions, trace
from monosemy.specs.graphs import GraphCheckSpec
from tests.support.attribution import some_ids, tiny_host_of
from tests.support.graph_coders import SETS, replacement
from tests.support.planted_graphs import (
    AUSTIN,
    DALLAS,
    planted_prompt,
)

EXACT = TraceOptions(most_features=None, untraced=0.0, row_mass=1.0)
Case = tuple[ReplacedPrompt, Goal, Graph]


@pytest.fixture(scope="module")
def planted() -> Case:
    prompt = planted_prompt()
    goal = logit_difference(prompt, AUSTIN, DALLAS)
    return prompt, goal, trace(prompt, [goal], EXACT)


def chain(count: int) -> Graph:
    """A logit fed by so many features, each less than the one before; no host behind it."""
    zeros = np.zeros(count + 1)
    nodes = Nodes(
        kind=np.array([NodeKind.feature] * count + [NodeKind.logit]),
        layer=np.arange(count + 1),
        position=np.zeros(count + 1, np.int64),
        coder=np.zeros(count + 1, np.int64),
        number=np.arange(count + 1),
        value=zeros + 1.0,
    )
    weight = 2.0 - np.arange(count) / count
    rows = Rows(
        target=np.array([count]),
        start=np.array([0, count]),
        source=np.arange(count),
        weight=weight,
        rest=np.zeros(1),
        rest_mass=np.zeros(1),
        value=np.array([weight.sum()]),
    )
    return Graph((0,), ("x",), count, nodes, rows, (count,), ("goal",), np.ones(1))


def feature(prompt: ReplacedPrompt, layer: int, position: int) -> int:
    features = prompt.features
    at = (features.layer_N == layer) & (features.position_N == position)
    return int(at.nonzero()[0, 0])


def test_a_planted_feature_taken_away_does_what_it_really_does(planted: Case) -> None:
    """By the graph Austin loses 2.4 without F0_0; the ReLU stops at the 2.2 that it had."""
    prompt, goal, _ = planted
    number = feature(prompt, 0, 1)
    deltas = without_features(prompt, [[], [number]])
    free = values_at(prompt, deltas, ["final_norm"], "nothing", 2)
    clean, without = goal_values(goal, free, 2).tolist()
    assert clean == pytest.approx(1.9, abs=1e-5)
    assert without - clean == pytest.approx(-2.2, abs=1e-5)
    errors = without_errors(prompt, [(0, 1)])
    lost = goal_values(goal, values_at(prompt, errors, ["final_norm"], "nothing", 1), 2)
    assert float(lost[0]) - clean == pytest.approx(-0.4, abs=1e-5)  # .25 * .8 * 2


def test_a_check_of_the_planted_graph(planted: Case) -> None:
    prompt, goal, graph = planted
    kept = prune(graph, 0.99, 1.0).kept
    spec = GraphCheckSpec(nodes=3, edges=2, random_circuits=4)
    check = check_graph(prompt, [goal], graph, kept, spec)
    assert check.nodes is not None and check.edges is not None
    assert check.nodes.strongest.n == 3 and check.nodes.strongest.same_sign == 1
    assert check.nodes.strongest.slope is not None
    assert 0.85 < check.nodes.strongest.slope.value < 1  # the ReLU's 2.2 of 2.4
    for change in check.edges.changes:
        assert change.frozen == pytest.approx(change.predicted, abs=1e-5)
        assert change.free == pytest.approx(change.predicted, abs=1e-5)
    assert check == check_graph(prompt, [goal], graph, kept, spec)
    assert check.with_errors.whole == pytest.approx(1.9, abs=1e-5)
    assert check.with_errors.kept == pytest.approx(1.0, abs=1e-5)
    assert check.with_errors.lost == pytest.approx(1.0, abs=1e-5)
    assert check.without_errors.whole == pytest.approx(1.5, abs=1e-5)  # less .4


def test_the_smallest_circuit_of_the_planted_graph(planted: Case) -> None:
    """F0_0 alone feeds Austin, so two features keep all; one keeps nothing."""
    prompt, goal, graph = planted
    kept = prune(graph, 0.99, 1.0).kept
    spec = GraphCheckSpec(nodes=0, edges=0, random_circuits=1, keep=0.8)
    search = check_graph(prompt, [goal], graph, kept, spec).search
    assert search is not None and search.features == len(search.names) and search.kept is not None
    assert search.kept >= 0.8 and search.curve[-1].features == len(prompt.features)
    assert search.curve[-1].kept == search.curve[-1].random_kept == pytest.approx(1, abs=1e-6)
    by_size = {each.features: each.kept for each in search.curve}
    assert by_size.get(search.features - 1, 0.0) < 0.8
    assert f"0/{int(prompt.features.groups[0].latent_N[0])}@1" in search.names
    without = spec.model_copy(update={"keep": None})
    assert check_graph(prompt, [goal], graph, kept, without).search is None


def test_a_search_finds_the_fewest_that_a_curve_has() -> None:
    """40 features of falling influence, of which the first 11 carry everything."""
    graph = chain(40)
    asked: list[int] = []

    def share(sets_BN: Any) -> Any:
        asked.extend(sets_BN.sum(1).tolist())
        return np.minimum(sets_BN[:, :11].sum(1) / 11, 1.0)

    rng = np.random.default_rng(0)
    search = search_circuit(graph, share, 0.95, 2, rng)
    assert search.features == 11 and search.kept == 1.0
    assert search.names == [f"{layer}/{layer}@0" for layer in range(11)]
    assert [each.features for each in search.curve] == [1, 2, 4, 8, 16, 32, 40]
    assert search.curve[3].kept > search.curve[3].random_high, "the order knows something"
    assert len(asked) <= 3 * 7 + 3, "16 halved down to 11"
    assert search_circuit(graph, lambda sets: share(sets) * 0.5, 0.9, 1, rng).features is None


@pytest.mark.parametrize(
    "which", [SETS[0], *(pytest.param(each, marks=pytest.mark.campaign) for each in SETS[1:])]
)
def test_all_features_and_errors_are_the_host_itself(which: str, tiny_tokenizer: Any) -> None:
    host = tiny_host_of("gemma2", tiny_tokenizer)
    prompt = read_prompt(replacement(host, which), some_ids(host))
    (goal,) = token_logits(prompt, [5])
    everything = torch.ones(2, len(prompt.features), dtype=torch.bool)
    everything[1] = False
    whole, none = run_circuits(prompt, everything, goal).tolist()
    expected = float(prompt.final_value(goal.position) @ goal.vector_D) + goal.constant
    assert whole == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert abs(none - whole) > 0.01


@pytest.fixture(scope="module")
def random_case(tiny_tokenizer: Any) -> tuple[ReplacedPrompt, list[Goal], Graph]:
    host = tiny_host_of("llama", tiny_tokenizer)
    prompt = read_prompt(replacement(host, "skip"), some_ids(host))
    goals = token_logits(prompt, [5, 9])
    return prompt, goals, trace(prompt, goals, EXACT)


def test_a_check_of_a_random_host(random_case: tuple[ReplacedPrompt, list[Goal], Graph]) -> None:
    prompt, goals, graph = random_case
    kept = prune(graph, 0.6, 0.9).kept
    spec = GraphCheckSpec(nodes=8, edges=8, random_circuits=3)
    check = check_graph(prompt, goals, graph, kept, spec, place=1)
    assert check.nodes is not None and check.edges is not None
    for change in check.edges.changes:  # in the graph's own world it is exact
        assert change.frozen == pytest.approx(change.predicted, rel=1e-3, abs=1e-4)
    held = check.edges.mlps_held
    assert held is not None and held.slope is not None and held.same_sign is not None
    assert held.same_sign > 0.8
    for part in (check.nodes, check.edges):
        assert part.strongest.n == part.matched.n == 8
        assert part.strongest.slope is not None and part.matched.slope is not None
        assert part.strongest.slope.low <= part.strongest.slope.value <= part.strongest.slope.high
        assert part.strongest.mean_real is not None and part.matched.mean_real is not None
    assert check.nodes.strongest.mean_real > check.nodes.matched.mean_real  # type: ignore[operator]
    share = check.with_errors
    assert share.features == int((graph.nodes.kind[kept] == 0).sum())
    assert share.random_kept is not None and share.kept is not None


def test_a_check_says_no_where_a_graph_is_wrong(
    random_case: tuple[ReplacedPrompt, list[Goal], Graph],
) -> None:
    """Weights in another order: predictions no longer go with what happens."""
    prompt, goals, graph = random_case
    rng = np.random.default_rng(0)
    rows = replace(graph.rows, weight=rng.permutation(graph.rows.weight))
    wrong = graph.with_rows(rows)
    spec = GraphCheckSpec(nodes=0, edges=20, random_circuits=0)
    check = check_graph(prompt, goals, wrong, np.arange(len(graph.nodes)), spec)
    assert check.edges is not None and check.edges.mlps_held is not None
    assert check.edges.mlps_held.slope is not None
    assert check.edges.mlps_held.slope.value < 0.5
    assert check.nodes is None and check.with_errors.random_kept is None


def test_another_prompt_is_refused(random_case: tuple[ReplacedPrompt, list[Goal], Graph]) -> None:
    prompt, goals, graph = random_case
    other = replace(graph, ids=(1, 2, 3))
    with pytest.raises(DataError, match="another prompt"):
        check_graph(prompt, goals, other, np.arange(3))
