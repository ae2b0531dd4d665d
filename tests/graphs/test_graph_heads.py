"""Heads that carry edges, and pairs of sources behind a score: both close at every layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from monosemy.attribution.backwards import Backwards
from monosemy.attribution.loadings import StreamVector, head_loadings
from monosemy.attribution.scores import pair_scores
from monosemy.errors import DataError
from monosemy.graphs.goals import token_logits
from monosemy.graphs.heads import edge_heads, token_heads
from monosemy.graphs.prompt import ReplacedPrompt, read_prompt
from monosemy.graphs.replacement import ReplacementModel
from monosemy.graphs.score_pairs import source_scores
from monosemy.graphs.transposed import TransposedPass
from monosemy.hosted_sae import HostedSAE
from tests.attribution.test_linearised import FAMILIES
from tests.graphs.test_coded_attention import attention_sae, prompt_with, targets_of
from tests.support.attribution import random_sae, some_ids, tiny_host_of
from tests.support.graph_coders import cross_layer, transcoders

CASES = [
    pytest.param(each, marks=() if each in ("gemma2", "neox-parallel") else pytest.mark.campaign)
    for each in FAMILIES
]


def sources_of(passes: TransposedPass) -> list[int]:
    """Features of every group, errors of both branches, and tokens."""
    sources, prompt = passes.sources, passes.prompt
    some = [group.start + len(group) // 2 for group in prompt.features.groups]
    errors = [sources.error(layer, 5) for layer in range(prompt.layers)]
    errors += [sources.attention_error(layer, 4) for layer in prompt.coded_attention]
    return [*some, *errors, sources.first_token + 3, sources.first_bias - 9]


def closes(prompt: ReplacedPrompt) -> int:
    """Checks every layer of edges into goals and features; how many layers that were."""
    passes, layers = TransposedPass(prompt), 0
    for target in [*token_logits(prompt, [5]), *targets_of(prompt)]:
        rows = passes.rows([target])
        mass = float(rows.edges_NB.abs().sum())
        for source in sources_of(passes):
            edge = edge_heads(passes, target, source)
            assert edge.value == pytest.approx(float(rows.edges_NB[source, 0]), abs=1e-6 * mass)
            for each in edge.layers:
                there = float(each.by_head_H.sum()) + each.bypass
                assert there == pytest.approx(edge.value, abs=2e-6 * mass)
            layers += len(edge.layers)
    return layers


@pytest.mark.parametrize("architecture", CASES)
def test_heads_and_bypass_are_the_edge_at_every_layer(
    architecture: str, tiny_tokenizer: Any
) -> None:
    host = tiny_host_of(architecture, tiny_tokenizer)
    assert closes(prompt_with(host, "attn.hook_z", (1,))) > 40


@pytest.mark.campaign
@pytest.mark.parametrize("architecture", FAMILIES)
def test_it_holds_behind_w_o_and_across_layers(architecture: str, tiny_tokenizer: Any) -> None:
    host = tiny_host_of(architecture, tiny_tokenizer)
    assert closes(prompt_with(host, "hook_attn_out", (0, 2))) > 40
    coders = [cross_layer(host), attention_sae(host, 1)]
    assert closes(read_prompt(ReplacementModel(host, coders), some_ids(host))) > 40


def test_without_coders_it_is_that_of_the_linearised_host(tiny_tokenizer: Any) -> None:
    host = tiny_host_of("llama", tiny_tokenizer)
    prompt = read_prompt(ReplacementModel(host, transcoders(host)), some_ids(host))
    passes, (goal,) = TransposedPass(prompt), token_logits(prompt, [5])
    source = passes.sources.first_token + 3
    edge = edge_heads(passes, goal, source)
    assert prompt.final is not None
    last = prompt.length - 1
    read = prompt.final.transposed(goal.vector_D, prompt.final_inverse_T1[last])
    blocks = {layer: held.reading for layer, held in enumerate(prompt.attention)}
    known = head_loadings(
        blocks,
        StreamVector(0, 3, prompt.token_TD[3]),
        StreamVector(prompt.layers, last, read),
    )
    assert [each.layer for each in edge.layers] == [0, 1, 2]
    for ours, theirs in zip(edge.layers, known.layers, strict=True):
        torch.testing.assert_close(ours.by_head_H, theirs.by_head_H, rtol=1e-4, atol=1e-6)


def test_a_feature_that_one_head_makes_says_so(tiny_tokenizer: Any) -> None:
    """Its encoder reads the third head of z alone: whatever feeds it comes through that head."""
    host = tiny_host_of("llama", tiny_tokenizer)
    site = "blocks.1.attn.hook_z"
    sae = random_sae(host.site_width(site), seed=3)
    width = sae.d_in // 4
    with torch.no_grad():
        sae.W_enc[: 2 * width] = 0
        sae.W_enc[3 * width :] = 0
    coders = [*transcoders(host), HostedSAE.at(host, sae, site)]
    prompt = read_prompt(ReplacementModel(host, coders), some_ids(host))
    passes = TransposedPass(prompt)
    (group,) = (g for g in prompt.features.groups if g.coder.attention is not None)
    target = group.start + len(group) - 1
    edges = passes.rows([target]).edges_NB[:, 0]
    sources = passes.sources
    for source in (sources.first_token + 3, int(edges[: sources.features].abs().argmax())):
        edge = edge_heads(passes, target, source)
        at = {each.layer: each for each in edge.layers}[1]
        assert float(at.by_head_H[2]) == pytest.approx(edge.value, rel=1e-4)
        assert at.bypass == 0 and float(at.by_head_H[[0, 1, 3]].abs().max()) == 0
    # What it reads at all tokens through that head is its value, biases left out.
    read = sum(float(token_heads(passes, target, t).layers[-1].by_head_H.sum()) for t in range(14))
    rows_ND, bias_N = group.coder.encoder(group.latent_N[-1:])
    constants = prompt.attention[1].z_constants().values()
    token = int(group.position_N[-1])
    own = float(bias_N[0]) + sum(float(each[token] @ rows_ND[0]) for each in constants)
    assert read + own == pytest.approx(float(group.activation_N[-1]), rel=1e-4)
    with pytest.raises(DataError, match="no biases"):
        edge_heads(passes, target, sources.first_bias)
    with pytest.raises(DataError, match="none is 99"):
        token_heads(passes, target, 99)


def test_a_score_is_of_tokens_that_are_there(tiny_tokenizer: Any) -> None:
    host = tiny_host_of("llama", tiny_tokenizer)
    prompt = prompt_with(host, "attn.hook_z", (0,))
    passes, lens = TransposedPass(prompt), Backwards(host, prompt.ids_T, 2, depth=1)
    last = prompt.length - 1
    for token, source, words in (
        (99, 2, f"tokens 0 to {last}, so none is 99"),
        (2, 99, f"tokens 0 to {last}, so none is 99"),
        (2, 3, "Token 2 cannot look at 3"),
    ):
        with pytest.raises(DataError, match=words):
            source_scores(passes, 2, 1, token, source)
        with pytest.raises(DataError, match=words):
            pair_scores(lens, 1, token, source)


@pytest.mark.parametrize("architecture", CASES)
def test_pairs_of_sources_are_the_score(architecture: str, tiny_tokenizer: Any) -> None:
    """As the lens has it from the stream of one layer; there and here sums close."""
    host = tiny_host_of(architecture, tiny_tokenizer)
    prompt = prompt_with(host, "attn.hook_z", (0,))
    scores = source_scores(TransposedPass(prompt), 2, 1, 11, 4)
    known = pair_scores(Backwards(host, prompt.ids_T, 2, depth=1), 1, 11, 4)
    assert (scores.score, scores.weight) == pytest.approx((known.score, known.weight), rel=1e-4)
    assert scores.average == pytest.approx(known.average, rel=1e-4)
    everything = torch.arange(len(scores.query_NE))
    pairs, relative = scores.pairs(everything, everything)
    mass = float(pairs.abs().sum())
    assert float(pairs.sum()) == pytest.approx(scores.score, abs=1e-9 * mass)
    assert float(relative.sum()) == pytest.approx(scores.score - scores.average, abs=1e-9 * mass)
    torch.testing.assert_close(scores.query_score_N, pairs.sum(1))
    torch.testing.assert_close(scores.key_score_N, pairs.sum(0))
    torch.testing.assert_close(scores.query_relative_N, relative.sum(1))
    torch.testing.assert_close(scores.key_relative_N, relative.sum(0))
    # What the sums miss is rounding, and what later tokens hold has no part.
    assert float(pairs[-1].abs().sum() + pairs[:, -1].abs().sum()) <= 1e-5 * mass
    late = prompt.features.position_N > 11
    assert float(scores.query_NE[: len(late)][late].abs().max()) == 0
    assert float(scores.key_NE[: len(late)][prompt.features.position_N > 4].abs().max()) == 0
    largest, exact = scores.largest(12)
    order = relative.abs().flatten().argsort(descending=True)[:12].tolist()
    assert exact and largest == [divmod(each, len(everything)) for each in order]


def test_scores_that_there_are_not(tiny_tokenizer: Any) -> None:
    host = tiny_host_of("llama", tiny_tokenizer)
    passes = TransposedPass(read_prompt(ReplacementModel(host, transcoders(host)), some_ids(host)))
    for wrong, words in (
        ((3, 0, 5, 1), "blocks 0 to 2"),
        ((1, 4, 5, 1), "heads 0 to 3"),
        ((1, 0, 5, 6), "looks back"),
        ((1, 0, 14, 1), "tokens 0 to 13"),
    ):
        with pytest.raises(DataError, match=words):
            source_scores(passes, *wrong)
