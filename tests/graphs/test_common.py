"""What graphs have in common: a planted core is met, what merely fires is not, chance is chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monosemy.errors import DataError
from monosemy.graphs.aligned import Aligner, GraphToAlign
from monosemy.graphs.chance import at_least, inclusion, number_of_times
from monosemy.graphs.common import common
from monosemy.graphs.firing import Firing
from monosemy.graphs.graph import NodeKind
from monosemy.graphs.influence import influence
from monosemy.graphs.overlap import overlaps
from tests.support.planted_common import CORE, KEPT, LAYERS, prompt_graph


def test_a_core_is_met_and_what_merely_fires_is_not() -> None:
    graphs = [prompt_graph(seed) for seed in range(6)]
    made = common(graphs, [prompt_graph(seed, ()) for seed in range(6, 10)])
    features = [each for each in made.units if each.kind == "feature"]
    stable = {each.latent for each in features if each.chance and each.chance.q <= 0.05}
    assert {*CORE} <= stable and len(stable) <= 5
    assert made.stable == len(stable) and made.features >= 40
    for each in features:
        assert each.chance is not None
        if each.latent in CORE:
            assert each.graphs == 6 and each.against_graphs == 0 and each.difference is not None
            assert each.difference.low > 0 and each.positive == 6
    core = [place for place, each in enumerate(made.units) if each.latent in CORE]
    wanted = {(a, b) for a in core for b in core if made.units[b].layer == made.units[a].layer + 1}
    edges = {(each.source, each.target): each for each in made.edges}
    assert len(wanted) == 2
    for pair in wanted:
        assert edges[pair].graphs == edges[pair].positive == 6 and edges[pair].chance.q <= 0.05
    (goal,) = (place for place, each in enumerate(made.units) if each.kind == "goal")
    last = next(place for place in core if made.units[place].layer == LAYERS - 1)
    # What can lead nowhere else leads there by chance too.
    assert edges[last, goal].graphs == 6 and edges[last, goal].chance.expected > 3
    beyond = {pair for pair, each in edges.items() if each.chance.q <= 0.05}
    assert len(beyond - wanted) <= 2
    assert made.overlap.p is not None and made.overlap.against is not None
    assert made.overlap.p <= 1 / 200 and made.overlap.divisions == 210
    assert made.overlap.within > made.overlap.against


def test_without_a_core_chance_says_how_many_there_are() -> None:
    made = common([prompt_graph(seed, ()) for seed in range(6)])
    assert made.stable <= 1
    for each in made.counts[1:4]:
        assert each.by_chance is not None
        half = each.by_chance.high - each.by_chance.value
        assert abs(each.features - each.by_chance.value) <= 2 * half
    assert made.overlap.by_chance is not None
    assert made.overlap.within == pytest.approx(made.overlap.by_chance, abs=0.1)


def test_the_scale_of_an_saes_activations_does_not_matter() -> None:
    graphs = [prompt_graph(seed) for seed in range(4)]
    before, after = common(graphs), common([_scaled(each) for each in graphs])
    for old, new in zip(before.units, after.units, strict=True):
        assert (old.chance is None) == (new.chance is None)
        if old.chance is not None and new.chance is not None:
            assert new.chance.expected == pytest.approx(old.chance.expected)
            assert new.chance.q == pytest.approx(old.chance.q)
    assert before.overlap.by_chance == pytest.approx(after.overlap.by_chance)


def _scaled(one: GraphToAlign) -> GraphToAlign:
    """With the activations of the first SAE a hundredth of what they were."""
    assert one.firing is not None
    factor = np.where(one.firing.coder == 0, 0.01, 1.0)
    return replace(one, firing=replace(one.firing, activation=one.firing.activation * factor))


def test_features_of_attention_stand_below_their_layers_mlp() -> None:
    """Relabelled: the middle layer's features are attention's of the last layer."""
    graphs = [prompt_graph(seed) for seed in range(4)]
    moved = [_middle_is_attention(each) for each in graphs]
    before, after = common(graphs), common(moved)
    assert [(each.source, each.target, each.flow) for each in after.edges] == [
        (each.source, each.target, each.flow) for each in before.edges
    ]
    for old, new in zip(before.units, after.units, strict=True):
        if old.kind == "feature" and old.layer == 1:
            assert (new.branch, new.layer) == ("attention", 2)
            assert new.label == f"2.attn/{new.latent}"
        else:
            assert new == old and new.branch == ("mlp" if new.kind == "feature" else None)


def _middle_is_attention(one: GraphToAlign) -> GraphToAlign:
    nodes = one.graph.nodes
    middle = (nodes.kind == NodeKind.feature) & (nodes.layer == 1)
    moved = replace(nodes, layer=np.where(middle, 2, nodes.layer), branch=middle.astype(np.int64))
    return replace(one, graph=replace(one.graph, nodes=moved))


@pytest.mark.campaign
def test_chance_holds_its_level() -> None:
    """p-values of features and of edges without a core: at most the level, within its error."""
    small = {"feature": [], "edge": []}
    for start in range(0, 120, 4):
        made = common([prompt_graph(start + each, ()) for each in range(4)], listed=300)
        small["feature"] += [each.chance.p for each in made.units if each.chance]
        small["edge"] += [each.chance.q <= 0.05 for each in made.edges]
    fires = 30 * LAYERS * 150
    assert sum(p <= 0.01 for p in small["feature"]) <= 0.01 * fires + 3 * np.sqrt(0.01 * fires)
    assert np.mean(small["edge"]) <= 0.05


def test_shares_are_means_over_all_graphs() -> None:
    graphs = [prompt_graph(seed) for seed in range(3)]
    made = common(graphs, least=3)
    unit = next(each for each in made.units if each.latent == CORE[1])
    own = []
    for each in graphs:
        at = np.flatnonzero(each.graph.nodes.number == CORE[1])
        own.append(influence(each.graph).through_N[at].sum() / 0.5)
    assert unit.share.value == pytest.approx(np.mean(own))
    half = 4.302653 * np.std(own, ddof=1) / np.sqrt(3)
    assert unit.share.high == pytest.approx(np.mean(own) + half, rel=1e-4)
    assert all(each.graphs == 3 for each in made.units)
    goal = next(each for each in made.units if each.kind == "goal")
    assert goal.share.value == pytest.approx(1)


def test_places_from_the_end_and_tokens_tell_features_apart() -> None:
    one = prompt_graph(0)
    nodes = one.graph.nodes
    feature = np.flatnonzero(nodes.number == CORE[0])[0]
    moved = nodes.position.copy()
    moved[feature] = 1 if nodes.position[feature] != 1 else 2
    other_nodes = type(nodes)(
        nodes.kind, nodes.layer, moved, nodes.coder, nodes.number, nodes.value
    )
    other = GraphToAlign(
        type(one.graph)(**{**vars_of(one.graph), "nodes": other_nodes}), one.firing
    )
    graphs = [one, other]
    assert CORE[0] in {each.latent for each in common(graphs).units}
    for align in ("end", "token"):
        made = common(graphs, align=align)
        listed = {each.latent: each.place for each in made.units if each.kind == "feature"}
        assert CORE[0] not in listed and CORE[1] in listed
        at = int(nodes.position[nodes.number == CORE[1]][0])
        wanted = {"end": f"{at - 4}" if at < 4 else "0", "token": one.graph.texts[at]}
        assert listed[CORE[1]] in (wanted[align], wanted[align].replace("0", "-0"))


def vars_of(graph: object) -> dict[str, object]:
    names = ("ids", "texts", "layers", "rows", "goals", "goal_labels", "goal_weights", "about")
    return {name: getattr(graph, name) for name in names}


def test_inclusion_is_that_of_draws() -> None:
    rng = np.random.default_rng(0)
    rates = np.exp(rng.normal(size=60))
    p = inclusion(rates, 12)
    assert p.sum() == pytest.approx(12)
    seen = np.zeros(60)
    for _ in range(4000):
        seen[np.argsort(rng.exponential(size=60) / rates)[:12]] += 1
    assert np.abs(seen / 4000 - p).max() < 0.04
    assert inclusion(rates, 60).tolist() == [1.0] * 60
    assert inclusion(np.array([0.0, 1.0]), 1).tolist() == [0.0, 1.0]


def test_numbers_of_times_are_binomial() -> None:
    times = number_of_times(np.full((4, 1), 0.3))
    assert times[:, 0].tolist() == pytest.approx([0.2401, 0.4116, 0.2646, 0.0756, 0.0081])
    assert at_least(times, np.array([3]))[0] == pytest.approx(0.0837)
    assert at_least(times, np.array([0]))[0] == pytest.approx(1)


def test_overlap_is_one_of_the_same_and_none_of_strangers() -> None:
    one, other = (prompt_graph(seed) for seed in range(2))
    same = Aligner("sum")
    both = overlaps([same.of(one), same.of(one)])
    assert both[0, 1] == pytest.approx(1)
    coders = np.arange(LAYERS) + LAYERS
    apart = overlaps([same.of(one), same.of(GraphToAlign(other.graph, other.firing, coders))])
    assert apart[0, 1] == 0


def test_graphs_that_know_nothing_of_what_fires_have_no_chance() -> None:
    graphs = [GraphToAlign(prompt_graph(seed).graph) for seed in range(3)]
    made = common(graphs)
    assert not made.has_null and made.stable == 0 and made.overlap.by_chance is None
    assert all(each.by_chance is None for each in made.counts)
    assert made.features > 0 and made.edges


def test_what_cannot_be_asked_is_refused() -> None:
    graphs = [prompt_graph(seed) for seed in range(2)]
    for bad, least in ((graphs[:1], 2), (graphs, 3), (graphs, 1)):
        with pytest.raises(ValueError, match=r"least|two graphs"):
            common(bad, least=least)


def test_what_fires_comes_back_from_its_bytes() -> None:
    firing = prompt_graph(0).firing
    assert firing is not None
    again = Firing.of_bytes(firing.to_bytes())
    assert (again.coder == firing.coder).all() and (again.latent == firing.latent).all()
    assert (again.position == firing.position).all()
    assert again.activation == pytest.approx(firing.activation, rel=1e-6)
    assert len(firing.coder) == LAYERS * (150 + 1) > KEPT
    for bad in (b"", b"\0" * 8 + b"x", firing.to_bytes()[:40], b"\1" + firing.to_bytes()[1:]):
        with pytest.raises(DataError, match="cannot be read"):
            Firing.of_bytes(bad)
