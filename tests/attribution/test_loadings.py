"""Head loadings: at every layer heads and bypass are the edge of the linearised host."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from monosemy.attribution.linearised import STREAM, linearise
from monosemy.attribution.loadings import EdgeLoadings, StreamVector, head_loadings
from monosemy.attribution.reading import read
from monosemy.models.host import HostModel
from tests.support.attribution import some_ids
from tests.support.tiny_models import tiny_from, tiny_model

FAMILIES = ("llama", "gpt2", "gemma2", "gemma3", "qwen3", "neox-parallel", "olmo2", "mixtral")
"""RMS and layer norms, norms of queries and keys, sandwich norms, shared keys, rotations, windows,
soft caps, biases, parallel branches, experts."""


def exact_host(architecture: str, tokenizer: Any) -> HostModel:
    """In float64, but for what the family itself computes in float32; two cannot."""
    model = tiny_model(architecture, len(tokenizer))
    return HostModel.wrap(
        model if architecture in ("neox-parallel", "mixtral") else model.double(),
        tokenizer,
        architecture,
    )


def some_vector(host: HostModel, seed: int) -> Tensor:
    return torch.randn(host.d_model, generator=torch.Generator().manual_seed(seed)).double()


def edge_of_gradients(
    host: HostModel, ids: list[int], source: StreamVector, target: StreamVector
) -> float:
    """The same edge by autograd on the linearised host."""
    leaf = STREAM if source.layer == 0 else f"blocks.{source.layer - 1}.hook_mlp_out"
    site = f"blocks.{target.layer - 1}.hook_resid_post"
    line = linearise(host, ids)
    value = line.leaves[leaf].clone().requires_grad_()
    read_there = line.forward([site], {leaf: value})[site][0, target.token].double()
    (slope,) = torch.autograd.grad(read_there @ target.vector_D, value)
    return float(slope[0, source.token].double() @ source.vector_D)


def size(edge: EdgeLoadings) -> float:
    return max(float(layer.by_head_H.abs().sum()) + abs(layer.bypass) for layer in edge.layers)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_heads_and_bypass_of_every_layer_sum_to_the_edge(
    architecture: str, tiny_tokenizer: Any
) -> None:
    host = exact_host(architecture, tiny_tokenizer)
    ids = some_ids(host)
    blocks = read(host, ids, range(host.n_layers)).blocks
    for below, above, at, to in ((0, 3, 3, 13), (0, 2, 0, 12), (1, 3, 7, 7), (2, 3, 2, 9)):
        source = StreamVector(below, at, some_vector(host, 1 + below))
        target = StreamVector(above, to, some_vector(host, 5 + above))
        edge = head_loadings(blocks, source, target)
        assert [layer.layer for layer in edge.layers] == [*range(below, above)]
        expected = edge_of_gradients(host, ids, source, target)
        assert abs(edge.value - expected) <= 1e-6 * size(edge)
        for layer in edge.layers:
            assert layer.by_head_H.shape == (4,)
            whole = float(layer.by_head_H.sum()) + layer.bypass
            assert abs(whole - edge.value) <= 1e-12 * size(edge)
            assert float(layer.by_head_H.abs().max()) > 0


def test_one_layer_is_the_formula_of_the_heads(tiny_tokenizer: Any) -> None:
    """``A[t, s] (v W_V W_O) . g``, by the weights of a Llama; nothing passes to another token."""
    host = exact_host("llama", tiny_tokenizer)
    ids = some_ids(host)
    block = read(host, ids, [2]).blocks[2]
    source, target = (StreamVector(2 + n, 4 + 7 * n, some_vector(host, n)) for n in (0, 1))
    edge = head_loadings({2: block}, source, target)
    attention = host.model.model.layers[2].self_attn
    norm = host.model.model.layers[2].input_layernorm
    sigma = (block.stream_SD[4].square().mean() + norm.variance_epsilon).sqrt()
    value = attention.v_proj.weight @ (norm.weight * source.vector_D / sigma)
    heads = value.view(-1, attention.head_dim).repeat_interleave(4 // (len(value) // 8), dim=0)
    for head in range(4):
        out = attention.o_proj.weight[:, 8 * head : 8 * head + 8]
        weight = block.pattern_HSS[head, 11, 4]
        expected = float((weight * (out @ heads[head]) @ target.vector_D).detach())
        assert float(edge.layers[0].by_head_H[head]) == pytest.approx(expected, rel=1e-5)
    assert edge.layers[0].bypass == 0


def test_a_head_that_is_taken_out_takes_its_loading_along(tiny_tokenizer: Any) -> None:
    """Of the last layer, since nothing behind it changes with it."""
    host = exact_host("qwen3", tiny_tokenizer)
    ids = some_ids(host)
    source = StreamVector(0, 2, some_vector(host, 1))
    target = StreamVector(3, 13, some_vector(host, 2))
    whole = head_loadings(read(host, ids, range(3)).blocks, source, target)
    with torch.no_grad():
        host.model.model.layers[2].self_attn.o_proj.weight[:, 8:16].zero_()
    without = head_loadings(read(host, ids, range(3)).blocks, source, target)
    lost = float(whole.layers[2].by_head_H[1])
    assert abs(lost) > 1e-6
    assert without.value == pytest.approx(whole.value - lost, rel=1e-9)
    assert float(without.layers[2].by_head_H[1]) == 0


def test_a_window_closes_a_path_of_one_layer_and_leaves_that_of_two(tiny_tokenizer: Any) -> None:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    model = tiny_from("MistralConfig", len(tiny_tokenizer), {**shape, "sliding_window": 4})
    host = HostModel.wrap(model, tiny_tokenizer, "windowed")
    blocks = read(host, some_ids(host), range(2)).blocks
    vector = some_vector(host, 1)
    far = StreamVector(2, 8, vector)
    assert head_loadings(blocks, StreamVector(1, 3, vector), far).value == 0
    assert head_loadings(blocks, StreamVector(0, 3, vector), far).value != 0


def test_where_nothing_can_pass_the_edge_is_nothing(tiny_tokenizer: Any) -> None:
    host = exact_host("llama", tiny_tokenizer)
    blocks = read(host, some_ids(host), range(3)).blocks
    vector = some_vector(host, 1)
    ahead = head_loadings(blocks, StreamVector(0, 9, vector), StreamVector(2, 3, vector))
    assert ahead.value == 0 and [layer.bypass for layer in ahead.layers] == [0, 0]
    same = head_loadings(blocks, StreamVector(1, 5, vector), StreamVector(1, 5, vector))
    assert same.layers == [] and same.value == pytest.approx(float(vector @ vector))


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ((2, 3), (1, 5), "below the source's 2"),
        ((0, 3), (4, 5), r"blocks \[3\] are not read"),
        ((0, 3), (1, 99), "target: the prompt has no token 99"),
        ((0, -1), (1, 5), "source: the prompt has no token -1"),
    ],
)
def test_places_that_do_not_fit_are_errors(
    source: tuple[int, int], target: tuple[int, int], words: str, tiny_tokenizer: Any
) -> None:
    host = exact_host("llama", tiny_tokenizer)
    blocks = read(host, some_ids(host), range(3)).blocks
    vector = some_vector(host, 1)
    with pytest.raises(ValueError, match=words):
        head_loadings(blocks, StreamVector(*source, vector), StreamVector(*target, vector))
    with pytest.raises(ValueError, match="a vector of length 32"):
        short = StreamVector(0, 3, vector[:5])
        head_loadings(blocks, short, StreamVector(1, 5, vector))
