"""Edges are gradients: every row adds up, and holding all else, ablation moves it by the edge."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from monosemy.attribution.linearised import FINAL, STREAM
from monosemy.graphs.ablation import skips_of
from monosemy.graphs.goals import Goal, logit_difference, stream_direction, token_logits
from monosemy.graphs.prompt import ReplacedPrompt, read_prompt
from monosemy.graphs.replacement import ReplacementModel
from monosemy.graphs.transposed import Target, TransposedPass
from tests.attribution.test_linearised import FAMILIES
from tests.support.attribution import some_ids, tiny_host_of
from tests.support.graph_coders import SETS, replacement, transcoders

CASES = [
    pytest.param(family, which, marks=() if place % 3 == at else pytest.mark.campaign)
    for place, family in enumerate(FAMILIES)
    for at, which in enumerate(SETS)
]
"""Every family with one of the sets, and every set with two families; all in the campaign."""


def leaves_of(prompt: ReplacedPrompt) -> dict[str, Tensor]:
    """What each MLP adds beside its skip: features, error and bias."""
    leaves = {STREAM: prompt.linearised.leaves[STREAM].clone()}
    for layer, mlp in enumerate(prompt.mlp_LTD):
        value = mlp.clone()
        for skip in skips_of(prompt):
            if skip.writes == f"blocks.{layer}.hook_mlp_out":
                read = next(p for s, p in prompt.places.items() if str(s) == skip.reads)
                value = value - (read.value_TD @ skip.matrix_OI.T) * skip.at_S[:, None]
        leaves[f"blocks.{layer}.hook_mlp_out"] = value[None]
    return leaves


def by_autograd(prompt: ReplacedPrompt, target: Target, leaves: dict[str, Tensor]) -> Tensor:
    """The target's value on the linearised host, by hooks on its modules."""
    skips = skips_of(prompt)
    if isinstance(target, Goal):
        site = FINAL if target.stream is None else f"blocks.{target.stream}.hook_resid_pre"
        value = prompt.linearised.forward([site], leaves, skips)[site]
        return value[0, target.position] @ target.vector_D + target.constant
    features = prompt.features
    coder = prompt.model.coders[int(features.coder_N[target])]
    rows, bias = coder.encoder(features.latent_N[target : target + 1])
    sites = [str(site) for site in coder.reads]
    values = prompt.linearised.forward(sites, leaves, skips)
    token = int(features.position_N[target])
    return torch.cat([values[site][0, token] for site in sites]) @ rows[0] + bias[0]


def some_targets(prompt: ReplacedPrompt) -> list[Target]:
    goals: list[Target] = [
        *token_logits(prompt, [5, 9]),
        logit_difference(prompt, 7, 3),
        stream_direction(prompt, "blocks.1.hook_resid_post", torch.ones(32), 6),
    ]
    return [*goals, *range(3, len(prompt.features), len(prompt.features) // 6)]


@pytest.mark.parametrize(("architecture", "which"), CASES)
def test_rows_are_gradients_that_add_up(architecture: str, which: str, tiny_tokenizer: Any) -> None:
    host = tiny_host_of(architecture, tiny_tokenizer)
    prompt = read_prompt(replacement(host, which), some_ids(host))
    edges = TransposedPass(prompt)
    targets = some_targets(prompt)
    rows = edges.rows(targets)
    off = (rows.edges_NB.double().sum(0) - rows.value_B).abs()
    assert float((off / rows.edges_NB.abs().sum(0)).max()) <= 1e-5
    assert float((off / rows.value_B.abs().clamp_min(0.1)).max()) <= 1e-4

    features, sources = prompt.features, edges.sources
    leaves = {name: leaf.requires_grad_() for name, leaf in leaves_of(prompt).items()}
    for column, target in enumerate(targets):
        value = by_autograd(prompt, target, leaves)
        assert float(value.detach()) == pytest.approx(
            float(rows.value_B[column]), rel=1e-4, abs=1e-4
        )
        slopes = dict(
            zip(
                leaves,
                torch.autograd.grad(value, list(leaves.values()), materialize_grads=True),
                strict=True,
            )
        )
        expected = torch.zeros(sources.first_bias)
        for layer in range(prompt.layers):
            slope = slopes[f"blocks.{layer}.hook_mlp_out"][0]
            first = sources.error(layer)
            expected[first : first + prompt.length] = (slope * prompt.error_LTD[layer]).sum(-1)
            for group in features.groups:
                if layer in group.coder.writes and group.layer <= layer:
                    vectors = group.written(layer, 0, len(group))
                    mine = slice(group.start, group.start + len(group))
                    expected[mine] += (vectors * slope[group.position_N]).sum(-1)
        stream = slopes[STREAM][0]
        first = sources.first_token
        expected[first : first + prompt.length] = (stream * prompt.token_TD).sum(-1)
        if prompt.position_TD is not None:
            first = sources.first_position
            expected[first : first + prompt.length] = (stream * prompt.position_TD).sum(-1)
        made = rows.edges_NB[: sources.first_bias, column]
        assert float((made - expected).norm() / expected.norm()) <= 1e-5


@pytest.mark.parametrize(("architecture", "which"), CASES)
def test_a_feature_taken_away_moves_targets_by_its_edges(
    architecture: str, which: str, tiny_tokenizer: Any
) -> None:
    host = tiny_host_of(architecture, tiny_tokenizer)
    prompt = read_prompt(replacement(host, which), some_ids(host))
    targets = some_targets(prompt)
    rows = TransposedPass(prompt).rows(targets)
    clean = leaves_of(prompt)
    with torch.no_grad():
        before = [float(by_autograd(prompt, target, clean)) for target in targets]
        for number in range(1, len(prompt.features), len(prompt.features) // 4):
            group = next(g for g in prompt.features.groups if number < g.start + len(g))
            place = number - group.start
            without = dict(clean)
            for layer in group.coder.writes:
                if layer < group.layer:
                    continue
                name = f"blocks.{layer}.hook_mlp_out"
                without[name] = clean[name].clone()
                written = group.written(layer, place, place + 1)[0]
                without[name][0, int(group.position_N[place])] -= written
            for column, target in enumerate(targets):
                moved = float(by_autograd(prompt, target, without)) - before[column]
                scale = float(rows.edges_NB[:, column].abs().sum())
                edge = float(rows.edges_NB[number, column])
                assert moved == pytest.approx(-edge, abs=1e-5 * scale)


def test_the_first_token_is_an_error_and_layers_without_a_coder_too(tiny_tokenizer: Any) -> None:
    host = tiny_host_of("llama", tiny_tokenizer)
    prompt = read_prompt(ReplacementModel(host, transcoders(host, [1])), some_ids(host))
    assert set(prompt.features.layer_N.tolist()) == {1}
    assert int(prompt.features.position_N.min()) == 1
    for layer in (0, 2):
        torch.testing.assert_close(prompt.error_LTD[layer], prompt.mlp_LTD[layer])
    torch.testing.assert_close(prompt.error_LTD[1][0], prompt.mlp_LTD[1][0])
    assert float((prompt.error_LTD[1][1:] - prompt.mlp_LTD[1][1:]).norm()) > 0.1
