"""A host whose circuit is known: it is found, and nothing where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from monosemy.errors import DataError
from monosemy.feature_circuits.run import (
    CHECK_STAGE,
    EXACT_STAGE,
    STAGE,
    MadeFeatureCircuit,
    make_feature_circuit,
)
from monosemy.graphs.drawing import draw
from monosemy.graphs.graph import NodeKind
from monosemy.graphs.influence import influence
from monosemy.graphs.listing import list_nodes, one_node
from monosemy.graphs.store import graph_bytes, graph_of_bytes
from monosemy.graphs.whole_influence import WholeInfluence
from monosemy.progress import SILENT, Reporter, StageProgress
from monosemy.specs.feature_circuits import FeatureCircuitSpec
from tests.support.planted_circuits import (
    NAMES,
    WRITTEN,
    planted_host,
    planted_pairs,
    planted_saes,
)


def made(affine: bool = False, reporter: Reporter = SILENT, **options: Any) -> MadeFeatureCircuit:
    host = planted_host(affine)
    pairs = planted_pairs(options.pop("shuffled", False), options.pop("patched", True))
    spec = FeatureCircuitSpec.model_validate(
        {"pairs": {"task": "given", "items": pairs}, "nodes": 40, "exact": 12, **options}
    )
    return make_feature_circuit(host, planted_saes(host), ["late", "early"], spec, reporter)


@pytest.fixture(scope="module")
def circuit() -> MadeFeatureCircuit:
    return made()


def test_the_features_of_the_names_are_found_and_no_filler(circuit: MadeFeatureCircuit) -> None:
    kept = set(zip(circuit.features.site, circuit.features.latent, strict=True))
    # Site 0 are the prompt's tokens.
    assert kept == {(site, name) for site in (1, 2) for name in range(len(NAMES))}
    early, late = circuit.summary.sites
    total = circuit.summary.clean.value - circuit.summary.patch.value
    assert (early.sae, late.sae) == ("early", "late")
    assert early.features == pytest.approx(WRITTEN * total, rel=1e-5)
    assert early.error == pytest.approx((1 - WRITTEN) * total, rel=1e-5)
    assert (late.features, late.error) == pytest.approx((total, 0), abs=1e-5)
    assert max(abs(early.residual), abs(late.residual)) <= 1e-5 * total
    tokens = circuit.summary.tokens
    assert tokens is not None
    assert tokens.cut == pytest.approx(total, rel=1e-5), "a prompt of other tokens is the patch"
    assert tokens.residual == pytest.approx(tokens.effect - tokens.cut)
    assert early.active > len(NAMES), "fillers change too"
    assert early.kept_share == pytest.approx(1)


def test_every_row_adds_up_though_features_are_switched(circuit: MadeFeatureCircuit) -> None:
    """At the clean prompt alone a gradient would have edges of twice their size, or of none."""
    graph = circuit.graph
    assert circuit.summary.unexplained <= 1e-5
    assert circuit.summary.edge_share == pytest.approx(1)
    assert np.abs(graph.rows.rest).max() <= 1e-5
    assert graph.rounding.max() <= 1e-6
    ends = influence(graph).by_kind
    assert ends["token"] == pytest.approx(WRITTEN, abs=1e-5)
    assert ends["error"] == pytest.approx(1 - WRITTEN, abs=1e-5)
    read = graph_of_bytes(graph_bytes(graph), "stored")
    assert read.about["sites"] == ["blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out"]
    assert read.nodes.layer.tolist() == graph.nodes.layer.tolist()


def test_no_node_is_of_a_branch_where_layers_are_sites(circuit: MadeFeatureCircuit) -> None:
    graph = circuit.graph
    drawn, (_, listed) = draw(graph, WholeInfluence.of(graph)), list_nodes(graph)
    assert {"feature", "error"} <= set(drawn.kind) and {"feature", "error"} <= {
        each.kind for each in listed
    }
    assert set(drawn.branch) == {each.branch for each in listed} == {None}
    assert one_node(graph, listed[0].node).branch is None


def test_the_circuit_does_the_task_on_pairs_left_out(circuit: MadeFeatureCircuit) -> None:
    check = circuit.summary.check
    assert (circuit.summary.pairs, check.pairs) == (6, 6)
    whole = check.curve[-1]
    assert whole.nodes == 2 * len(NAMES)
    assert whole.with_errors.value == pytest.approx(1, abs=1e-5)
    assert 0.5 < whole.without_errors.value < 0.95
    assert abs(whole.complement.value) < 0.2
    assert whole.random_with_errors is not None
    assert whole.random_with_errors.value < whole.with_errors.value


def test_with_shuffled_answers_there_is_nothing() -> None:
    nothing = made(shuffled=True)
    assert len(nothing.features) == 0
    assert [each.nodes for each in nothing.summary.check.curve] == [0]
    assert nothing.summary.exact is None


def test_all_three_effects_agree_where_everything_is_linear() -> None:
    linear = made(affine=True, edge_midpoints=1, midpoints=1, random_circuits=0)
    exact = linear.summary.exact
    assert exact is not None and exact.n == 12 and exact.correlation is not None
    assert exact.correlation.value == pytest.approx(1, abs=1e-6)
    assert exact.attribution_patching is not None
    assert exact.attribution_patching.value == pytest.approx(1, abs=1e-6)
    assert linear.summary.unexplained <= 1e-4
    by_gradient = made(affine=True, method="atp", exact=0, random_circuits=0)
    assert by_gradient.features.latent == linear.features.latent
    assert by_gradient.features.effect == pytest.approx(linear.features.effect, rel=1e-4)


class _Stages(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.ended: dict[str, tuple[int, int | None]] = {}

    def finish(self, progress: StageProgress) -> None:
        self.ended[progress.name] = progress.done, progress.total


def test_each_stage_ends_at_its_total() -> None:
    stages = _Stages()
    made(reporter=stages)
    assert list(stages.ended) == [STAGE, EXACT_STAGE, CHECK_STAGE]
    assert all(done == total for done, total in stages.ended.values()), stages.ended


def test_positions_of_one_template_are_kept_apart() -> None:
    aligned = made(positions="aligned", exact=0)
    nodes = aligned.graph.nodes
    features = nodes.kind == NodeKind.feature
    early, late = (set(nodes.position[features & (nodes.layer == at)].tolist()) for at in (0, 1))
    assert (early, late) == ({2}, {4}), "the name's token and the last one"
    assert aligned.graph.texts[-1].strip() == "=" and aligned.graph.texts[2].endswith("…")
    assert aligned.summary.unexplained <= 1e-5
    assert aligned.summary.check.curve[-1].with_errors.value == pytest.approx(1, abs=1e-5)


def test_without_patches_features_are_set_to_0() -> None:
    zeroed = made(patched=False, exact=0)
    summary = zeroed.summary
    assert not summary.patched and summary.tokens is None
    for each in summary.sites:
        assert abs(each.residual) <= 0.02 * abs(summary.clean.value - summary.patch.value)
    assert not (zeroed.graph.nodes.kind == NodeKind.token).any()
    assert set(zeroed.features.latent) <= set(range(len(NAMES)))
    assert summary.check.curve[-1].with_errors.value > 0.5


def test_answers_that_are_one_token_are_refused() -> None:
    """Of words that it does not know, this tokenizer makes the same token."""
    host = planted_host()
    items = [{**each, "answer": " neither", "wrong": " known"} for each in planted_pairs()]
    spec = FeatureCircuitSpec.model_validate({"pairs": {"task": "given", "items": items}})
    with pytest.raises(DataError, match=r"Pair 1: .* reads answer and wrong as one token"):
        make_feature_circuit(host, planted_saes(host), ["late", "early"], spec)
