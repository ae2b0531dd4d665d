"""Tracing: the stopping rule, what rows leave out, determinism, progress, memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from monosemy.attribution.linearised import FINAL
from monosemy.errors import DataError
from monosemy.graphs.ablation import goal_values, values_at, without_features
from monosemy.graphs.forecast import forecast
from monosemy.graphs.goals import logit_difference, stream_direction, token_logits, top_logits
from monosemy.graphs.graph import Graph, NodeKind
from monosemy.graphs.influence import influence
from monosemy.graphs.prompt import ReplacedPrompt, read_prompt
from monosemy.graphs.replacement import ReplacementModel
from monosemy.graphs.store import kept_mass
from monosemy.graphs.trace import TraceOptions, trace
from monosemy.graphs.transposed import TransposedPass
from monosemy.hosted_sae import HostedSAE
from monosemy.progress import Reporter, StageProgress
from tests.support.attribution import some_ids, tiny_host_of
from tests.support.graph_coders import cross_layer, random_coder, replacement, transcoders

EXACT = TraceOptions(most_features=None, untraced=0.0, row_mass=1.0)


@pytest.fixture(scope="module")
def prompt(tiny_tokenizer: Any) -> ReplacedPrompt:
    host = tiny_host_of("gpt2", tiny_tokenizer)
    return read_prompt(replacement(host, "skip"), some_ids(host))


@pytest.fixture(scope="module")
def whole(prompt: ReplacedPrompt) -> Graph:
    return trace(prompt, top_logits(prompt, most=3), EXACT)


def test_a_whole_graph_adds_up_and_reaches_the_prompt(prompt: ReplacedPrompt, whole: Graph) -> None:
    assert len(whole.rows) == whole.about["traced_features"] + 3 < len(prompt.features)
    assert whole.rounding.max() <= 1e-5
    flow = influence(whole)
    assert flow.by_kind["untraced"] == 0 and flow.by_kind["rest"] == 0
    assert sum(flow.by_kind.values()) == pytest.approx(flow.total, rel=1e-6)
    assert flow.by_kind["position"] > 0
    assert 0 < flow.replacement < 1 and 0 < flow.completeness < flow.completeness_ct
    biases = influence(whole, biases=True)
    assert biases.by_kind["bias"] > 0.01 * biases.total
    share = np.abs(whole.rows.weight[whole.bias_edges]).sum() / np.abs(whole.rows.weight).sum()
    assert share > 0.05  # so that rows without them could not close


def test_tracing_stops_where_little_is_left_and_says_how_little(
    prompt: ReplacedPrompt, whole: Graph
) -> None:
    options = TraceOptions(batch=8, untraced=0.2, row_mass=1.0, between_ranks=1)
    graph = trace(prompt, top_logits(prompt, most=3), options)
    flow = influence(graph)
    left = flow.by_kind["untraced"] / flow.total
    assert left == pytest.approx(graph.about["untraced_share"], rel=1e-6)
    assert 0 < left <= 0.2 and graph.about["traced_features"] < len(prompt.features)
    # What is not traced may all be errors: the score is a lower bound.
    assert flow.replacement <= influence(whole).replacement + 1e-9
    capped = trace(prompt, top_logits(prompt, most=3), TraceOptions(most_features=5))
    assert capped.about["traced_features"] == 5
    assert capped.about["untraced_share"] > left


def test_rows_keep_the_mass_that_was_asked_for(prompt: ReplacedPrompt, whole: Graph) -> None:
    options = TraceOptions(most_features=None, untraced=0.0, row_mass=0.9)
    graph = trace(prompt, top_logits(prompt, most=3), options)
    kept = kept_mass(graph)
    assert kept.min() >= 0.9 - 1e-6
    assert len(graph.rows.source) < 0.8 * len(whole.rows.source)
    assert graph.rounding.max() <= 1e-5  # with what was left out as one number
    flow = influence(graph)
    assert sum(flow.by_kind.values()) == pytest.approx(flow.total, rel=1e-9)
    assert flow.replacement <= influence(whole).replacement + 1e-9


def test_rows_have_so_many_edges_at_most(prompt: ReplacedPrompt) -> None:
    options = TraceOptions(most_features=4, row_edges=10)
    graph = trace(prompt, top_logits(prompt, most=1), options)
    flowing = graph.rows.sums((~graph.bias_edges).astype(float))
    assert flowing.max() == 10
    assert graph.about["least_row_mass"] == kept_mass(graph).min() < 0.9
    assert graph.rounding.max() <= 1e-5


def same_bits(one: Graph, two: Graph) -> bool:
    arrays = {name: each for name, each in vars(one.rows).items() if isinstance(each, np.ndarray)}
    return bool(arrays) and all(
        np.array_equal(each, vars(two.rows)[name]) for name, each in arrays.items()
    )


def test_the_same_prompt_gives_the_same_bits(prompt: ReplacedPrompt) -> None:
    one, two = (trace(prompt, top_logits(prompt, most=2), TraceOptions(batch=16)) for _ in range(2))
    assert same_bits(one, two)


def test_several_devices_give_the_same_bits(prompt: ReplacedPrompt, tiny_tokenizer: Any) -> None:
    goals, options = top_logits(prompt, most=3), TraceOptions(batch=8, untraced=0.1)
    alone = trace(prompt, goals, options)
    host = tiny_host_of("gpt2", tiny_tokenizer)
    again = read_prompt(replacement(host, "skip"), some_ids(host))
    for beside in ([prompt], [again], [prompt, again, again]):
        assert same_bits(trace(prompt, goals, options, beside=beside), alone)


def test_an_error_of_one_device_ends_the_trace(
    prompt: ReplacedPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(passes: TransposedPass, targets: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(TransposedPass, "rows", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        trace(prompt, top_logits(prompt, most=3), TraceOptions(batch=1), beside=[prompt])


def test_devices_that_read_another_prompt_are_refused(
    prompt: ReplacedPrompt, tiny_tokenizer: Any
) -> None:
    host = tiny_host_of("gpt2", tiny_tokenizer)
    shorter = read_prompt(replacement(host, "skip"), some_ids(host)[:-1])
    with pytest.raises(DataError, match="do not agree about which features"):
        trace(prompt, top_logits(prompt, most=3), beside=[shorter])


def test_batches_do_not_matter(prompt: ReplacedPrompt) -> None:
    passes = TransposedPass(prompt)
    targets = [3, len(prompt.features) - 1, 40, *top_logits(prompt, most=2)]
    together = passes.rows(targets).edges_NB
    for column, target in enumerate(targets):
        alone = passes.rows([target]).edges_NB[:, 0]
        size = float(alone.norm())
        assert float((together[:, column] - alone).norm()) <= 1e-5 * size


class _Heard(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.last: StageProgress | None = None
        self.finished = False

    def update(self, progress: StageProgress) -> None:
        self.last = progress

    def finish(self, progress: StageProgress) -> None:
        self.finished = True


def test_progress_has_rate_time_left_and_the_untraced_share(prompt: ReplacedPrompt) -> None:
    heard = _Heard()
    trace(prompt, top_logits(prompt, most=2), TraceOptions(batch=16, untraced=0.1), heard)
    assert heard.last is not None and heard.finished
    progress = heard.last.as_dict()
    assert (
        progress["stage"] == "graph"
        and progress["rate"] > 0
        and progress["eta_seconds"] is not None
    )
    assert 0 < progress["metrics"]["untraced"] <= 1


def test_goals_of_every_kind(prompt: ReplacedPrompt) -> None:
    host = prompt.host
    row = torch.tensor([prompt.ids_T])
    logits = host.logits(row, torch.ones_like(row))[0, -1]
    likely = top_logits(prompt, mass=0.5, most=4)
    assert [goal.token for goal in likely] == logits.topk(len(likely)).indices.tolist()
    assert sum(g.weight for g in likely) >= 0.5 or len(likely) == 4
    centred = logits - logits.mean()
    goals = [*token_logits(prompt, [5, 9]), logit_difference(prompt, 7, 3)]
    direction = torch.arange(32.0)
    goals.append(stream_direction(prompt, "blocks.1.hook_resid_pre", direction, 4))
    values = TransposedPass(prompt).rows(goals).value_B.tolist()
    stream = host.capture(row, torch.ones_like(row), ["blocks.1.hook_resid_pre"])
    expected = [
        float(centred[5]),
        float(centred[9]),
        float(logits[7] - logits[3]),
        float(stream["blocks.1.hook_resid_pre"][0, 4] @ direction),
    ]
    assert values == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_goals_that_are_none_are_refused(prompt: ReplacedPrompt) -> None:
    with pytest.raises(DataError, match="none is 999999"):
        token_logits(prompt, [999_999])
    with pytest.raises(DataError, match="itself"):
        logit_difference(prompt, 4, 4)
    with pytest.raises(DataError, match="no stream"):
        stream_direction(prompt, "blocks.1.hook_mlp_out", torch.ones(32), 0)
    with pytest.raises(DataError, match="none is number 99"):
        stream_direction(prompt, "blocks.1.hook_resid_pre", torch.ones(32), 99)
    with pytest.raises(DataError, match="finite"):
        stream_direction(prompt, "blocks.1.hook_resid_pre", torch.ones(31), 0)
    with pytest.raises(DataError, match="one logit"):
        trace(prompt, [])


def test_sets_that_do_not_fit_are_refused(tiny_tokenizer: Any) -> None:
    host, other = (tiny_host_of("llama", tiny_tokenizer) for _ in range(2))
    with pytest.raises(DataError, match="another host"):
        ReplacementModel(other, transcoders(host, [0]))
    with pytest.raises(DataError, match="Two coders"):
        ReplacementModel(host, [*transcoders(host, [1]), *transcoders(host, [1])])
    wrong = HostedSAE.at(
        host, random_coder(32, 32), "blocks.0.hook_resid_mid", "blocks.0.hook_attn_out"
    )
    with pytest.raises(DataError, match="hook_attn_out"):
        ReplacementModel(host, [wrong])
    late = HostedSAE.at(
        host, random_coder(32, 32), "blocks.2.hook_resid_mid", "blocks.1.hook_mlp_out"
    )
    with pytest.raises(DataError, match="before it has read"):
        ReplacementModel(host, [late])


def test_a_host_without_coders_is_a_graph_of_errors_and_tokens(tiny_tokenizer: Any) -> None:
    host = tiny_host_of("llama", tiny_tokenizer)
    prompt = read_prompt(ReplacementModel(host, []), some_ids(host))
    goals = top_logits(prompt, most=2)
    graph = trace(prompt, goals)
    flow = influence(graph)
    assert len(graph.rows) == len(goals) and graph.about["untraced_share"] == 0
    assert flow.by_kind["error"] > 0 and graph.rounding.max() <= 1e-5
    assert forecast(prompt, goals).rows == len(goals)


def test_a_coder_whose_activations_are_no_sums_is_refused(tiny_tokenizer: Any) -> None:
    host = tiny_host_of("llama", tiny_tokenizer)
    (hosted,) = transcoders(host, [1])
    encode = hosted.sae.encode
    hosted.sae.encode = lambda x, budget=None: (  # type: ignore[method-assign]
        lambda codes: codes._replace(values=codes.values * 1.1)
    )(encode(x, budget))
    with pytest.raises(DataError, match="pre-activations"):
        read_prompt(ReplacementModel(host, [hosted]), some_ids(host))


def test_a_forecast_counts_rows_and_grows_with_the_prompt(tiny_tokenizer: Any) -> None:
    host = tiny_host_of("llama", tiny_tokenizer)
    model = replacement(host, "plain")
    forecasts = []
    for length in (8, 32):
        prompt = read_prompt(model, some_ids(host, length))
        goals = top_logits(prompt, most=2)
        forecasts.append(forecast(prompt, goals, TraceOptions(most_features=10**6)))
        assert forecasts[-1].rows == len(prompt.features) + len(goals)
        assert forecasts[-1].seconds > 0
    assert forecasts[1].bytes > 3 * forecasts[0].bytes


def test_a_feature_of_all_layers_writes_where_it_is_told(tiny_tokenizer: Any) -> None:
    """The edge of a cross-layer feature is the sum over the layers that it writes."""
    host = tiny_host_of("llama", tiny_tokenizer)
    prompt = read_prompt(ReplacementModel(host, [cross_layer(host)]), some_ids(host))
    goal = logit_difference(prompt, 7, 3)
    edges = TransposedPass(prompt).rows([goal]).edges_NB[:, 0]
    number = next(n for n in range(len(prompt.features)) if prompt.features.layer_N[n] == 0)
    deltas = without_features(prompt, [[], [number]])
    assert sorted(deltas) == [f"blocks.{layer}.hook_mlp_out" for layer in range(3)]
    values = values_at(prompt, deltas, [FINAL], "all", 2)
    clean, without = goal_values(goal, values, prompt.layers).tolist()
    assert without - clean == pytest.approx(-float(edges[number]), rel=1e-3, abs=1e-4)


def test_nodes_are_numbered_by_kind(whole: Graph, prompt: ReplacedPrompt) -> None:
    kinds = whole.nodes.kind
    assert (np.diff(kinds) >= 0).all()
    tokens = np.flatnonzero(kinds == NodeKind.token)
    assert whole.nodes.number[tokens].tolist() == list(prompt.ids_T)
    assert len(whole.nodes) == len(prompt.features) + 3 * 14 + 2 * 14 + 5 + 3
