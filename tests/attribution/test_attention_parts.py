"""Attention taken apart: proved on many families, refused by name where it cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monosemy.attribution.attention import attention_blocks
from monosemy.attribution.reading import read, read_rows
from monosemy.attribution.rotations import find_pairing
from monosemy.errors import DataError, ModelError
from monosemy.models.host import HostModel
from tests.support.attribution import some_ids, tiny_host_of
from tests.support.tiny_models import tiny_from, tiny_model

FAMILIES = (
    *("llama", "gpt2", "gemma2", "gemma3", "qwen2", "qwen3", "olmo2"),
    *("neox-parallel", "neox-sequential", "gptj", "falcon", "opt", "mixtral"),
)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_block_is_proved_and_its_parts_make_what_the_model_makes(
    architecture: str, tiny_tokenizer: Any
) -> None:
    host = tiny_host_of(architecture, tiny_tokenizer)
    blocks = attention_blocks(host, range(host.n_layers))
    assert {block.heads for block in blocks.values()} == {4}
    assert {block.no_scores for block in blocks.values()} == {None}
    ids = some_ids(host)
    sites = [f"blocks.{layer}.hook_attn_out" for layer in range(host.n_layers)]
    reading = read(host, ids, range(host.n_layers), sites)
    row = torch.tensor([ids])
    zs = [f"blocks.{layer}.attn.hook_z" for layer in range(host.n_layers)]
    captured = host.capture(row, torch.ones_like(row), [*zs, *sites])
    for layer, block in reading.blocks.items():
        value_HSV = block.value_HSV + block.bias_HSV
        z_SZ = (block.pattern_HSS @ value_HSV).transpose(0, 1).flatten(1)
        torch.testing.assert_close(z_SZ, captured[zs[layer]][0], rtol=1e-4, atol=1e-5)
        added = block.projected_SD
        if block.block.exit is not None:
            added = block.block.exit.linear(added, block.exit_inverse_S1) + block.block.exit.shift
        torch.testing.assert_close(added, captured[sites[layer]][0], rtol=1e-4, atol=1e-5)


def test_a_sliding_window_is_in_the_pattern(tiny_tokenizer: Any) -> None:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    model = tiny_from("MistralConfig", len(tiny_tokenizer), {**shape, "sliding_window": 4})
    host = HostModel.wrap(model, tiny_tokenizer, "windowed")
    pattern_HSS = read(host, some_ids(host), [1]).blocks[1].pattern_HSS
    far = torch.ones_like(pattern_HSS[0], dtype=torch.bool).tril(-4)
    assert float(pattern_HSS[:, far].abs().max()) == 0
    assert torch.allclose(pattern_HSS.sum(-1), torch.ones(()), atol=1e-5)


def test_half_of_a_head_may_turn(tiny_tokenizer: Any) -> None:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4}
    host = HostModel.wrap(
        tiny_from("PhiConfig", len(tiny_tokenizer), {**shape, "partial_rotary_factor": 0.5}),
        *(tiny_tokenizer, "partial"),
    )
    scores = attention_blocks(host, [1])[1].scores
    assert scores is not None
    own = torch.arange(8)
    assert (scores.query_pairs.partner_E == own).sum() == 4
    assert torch.equal(scores.query_pairs.partner_E, scores.key_pairs.partner_E)


def test_a_soft_cap_is_found(tiny_tokenizer: Any) -> None:
    model = tiny_model("gemma2", len(tiny_tokenizer))
    model.config.attn_logit_softcapping = 2.0
    for block in model.model.layers:
        block.self_attn.attn_logit_softcapping = 2.0
    host = HostModel.wrap(model, tiny_tokenizer, "capped")
    scores = attention_blocks(host, [1])[1].scores
    assert scores is not None and scores.cap == 2.0


def test_bfloat16_is_proved(tiny_tokenizer: Any) -> None:
    model = tiny_model("llama", len(tiny_tokenizer), torch.bfloat16)
    host = HostModel.wrap(model, tiny_tokenizer, "half")
    assert attention_blocks(host, [0, 2])[2].no_scores is None


def test_a_position_bias_leaves_the_values_and_refuses_the_scores(tiny_tokenizer: Any) -> None:
    block = attention_blocks(tiny_host_of("bloom", tiny_tokenizer), [1])[1]
    with pytest.raises(ModelError, match="scores are not the products"):
        block.need_scores("bloom")


def test_blocks_without_heads_are_refused_by_name(tiny_tokenizer: Any) -> None:
    host = tiny_host_of("mamba", tiny_tokenizer)
    with pytest.raises(ModelError, match=r"blocks.1 of mamba .* it has no"):
        attention_blocks(host, [1])


def test_a_gate_before_the_output_projection_is_refused(tiny_tokenizer: Any) -> None:
    model = tiny_model("llama", len(tiny_tokenizer))
    projection = model.model.layers[1].self_attn.o_proj
    projection.register_forward_pre_hook(lambda _, args: (args[0] * args[0].sigmoid(),))
    host = HostModel.wrap(model, tiny_tokenizer, "gated")
    attention_blocks(host, [0, 2])
    with pytest.raises(ModelError, match=r"blocks.1 of gated .*a gate or a norm"):
        attention_blocks(host, [1])


class _Bent(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).tanh()  # type: ignore[no-any-return]


def test_values_that_are_bent_are_refused(tiny_tokenizer: Any) -> None:
    model = tiny_model("llama", len(tiny_tokenizer))
    attention = model.model.layers[1].self_attn
    attention.v_proj = _Bent(attention.v_proj)
    host = HostModel.wrap(model, tiny_tokenizer, "bent")
    with pytest.raises(ModelError, match=r"blocks.1 of bent .* values are not"):
        attention_blocks(host, [1])


@pytest.mark.parametrize("architecture", FAMILIES)
def test_rows_that_are_read_together_are_those_read_alone(
    architecture: str, tiny_tokenizer: Any
) -> None:
    host = tiny_host_of(architecture, tiny_tokenizer)
    generator = torch.Generator().manual_seed(1)
    ids_BS = torch.randint(3, host.d_vocab, (3, 20), generator=generator)
    together = read_rows(host, ids_BS, [1])
    for ids_S, many in zip(ids_BS, together, strict=True):
        alone = read(host, ids_S.tolist(), [1])
        assert torch.equal(many.ids_S, alone.ids_S)
        for name in ("pattern_HSS", "value_HSV", "bias_HSV", "z_SZ", "stream_SD"):
            one, other = (getattr(each.blocks[1], name) for each in (many, alone))
            assert torch.allclose(one, other, atol=1e-5, rtol=1e-4), name


def test_prompts_that_are_too_short_or_too_long_are_refused(tiny_tokenizer: Any) -> None:
    host = tiny_host_of("gpt2", tiny_tokenizer)
    with pytest.raises(DataError, match="1 token"):
        read(host, [5], [1])
    with pytest.raises(DataError, match="129 tokens"):
        read(host, [5] * 129, [1])


def test_a_map_that_is_no_rotation_has_no_pairing() -> None:
    generator = torch.Generator().manual_seed(0)
    x_SHE = torch.randn(6, 3, 8, generator=generator)
    mixed = x_SHE @ torch.randn(8, 8, generator=generator)
    assert find_pairing(x_SHE, mixed, 1e-5) is None
    assert find_pairing(x_SHE, 0.5 * x_SHE, 1e-5) is not None
