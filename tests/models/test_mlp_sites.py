"""The sites around an MLP: what it reads, before and behind its norm's gain, and what it gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from monosemy.data.store import TokenStore
from monosemy.errors import DataError, ModelError, UnknownSite
from monosemy.hosted_sae import HostedSAE
from monosemy.index.logits import LogitLens
from monosemy.interventions.edits import Interventions
from monosemy.interventions.intervention import Direction, add
from monosemy.mlp_input import moved_across_gain
from monosemy.models.activations import ActivationSource
from monosemy.models.host import HostModel
from monosemy.saes.registry import create
from monosemy.specs import GatedSpec, JumpReLUSpec, TopKSpec, TranscoderSpec
from monosemy.specs.hooks import Hooks
from tests.support.tiny_models import tiny_model

FAMILIES = ("llama", "gpt2", "gemma2", "gemma3", "qwen3", "neox-parallel", "olmo2")
WITH_NORM = FAMILIES[:-1]


@pytest.fixture(scope="module")
def hosts(tiny_tokenizer: Any) -> dict[str, HostModel]:
    return {
        name: HostModel.wrap(tiny_model(name, len(tiny_tokenizer)), tiny_tokenizer, name)
        for name in (*FAMILIES, "gptj", "opt")
    }


def some_ids(rows: int = 2, columns: int = 12) -> Tensor:
    return torch.randint(3, 300, (rows, columns), generator=torch.Generator().manual_seed(3))


def captured(host: HostModel, *kinds: str, layer: int = 1) -> list[Tensor]:
    names = [f"blocks.{layer}.{kind}" for kind in kinds]
    ids_BS = some_ids()
    acts = host.capture(ids_BS, torch.ones_like(ids_BS), names)
    return [acts[name] for name in names]


def mlp_of(host: HostModel, layer: int = 1) -> Any:
    return host._trunk.blocks[layer].mlp


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_the_mlp_alone_makes_its_output_of_what_it_reads(
    hosts: dict[str, HostModel], name: str
) -> None:
    host = hosts[name]
    read, raw, added = captured(host, "mlp.hook_in", "mlp.hook_out", "hook_mlp_out")
    assert torch.equal(mlp_of(host)(read), raw)
    block = host._trunk.blocks[1]
    behind = {"gemma2", "gemma3", "olmo2"}  # those with a norm between MLP and stream
    post = getattr(block, "post_feedforward_layernorm", None)
    assert (post is not None) == (name in behind)
    assert torch.equal(raw if post is None else post(raw), added)


@torch.no_grad()
@pytest.mark.parametrize("name", WITH_NORM)
def test_normalised_is_the_stream_divided_before_gain_and_bias(
    hosts: dict[str, HostModel], name: str
) -> None:
    host = hosts[name]
    stream = "hook_resid_pre" if name == "neox-parallel" else "hook_resid_mid"
    x, n, read = (
        each.double() for each in captured(host, stream, "ln2.hook_normalized", "mlp.hook_in")
    )
    if name in ("gpt2", "neox-parallel"):
        x = x - x.mean(-1, keepdim=True)
    epsilon = 1e-5 if name in ("gpt2", "neox-parallel") else 1e-6
    torch.testing.assert_close(
        n, x / (x.square().mean(-1, keepdim=True) + epsilon).sqrt(), rtol=1e-5, atol=1e-5
    )
    norm = host.norm_before_mlp(1)
    torch.testing.assert_close(norm.gain * n + norm.shift, read, rtol=1e-5, atol=1e-5)


def test_what_is_not_there_is_refused_by_name(hosts: dict[str, HostModel]) -> None:
    with pytest.raises(UnknownSite, match="MLP reads the stream itself, with no norm before it"):
        hosts["olmo2"].site_width("blocks.0.ln2.hook_normalized")
    read, mid = captured(hosts["olmo2"], "mlp.hook_in", "hook_resid_mid")
    assert torch.equal(read, mid)
    with pytest.raises(UnknownSite, match="is the one before attention as well"):
        hosts["gptj"].site_width("blocks.0.ln2.hook_normalized")
    assert hosts["gptj"].site_width("blocks.0.mlp.hook_in") == 32
    with pytest.raises(UnknownSite, match=r"no site 'blocks\.0\.mlp\.hook_in'"):
        hosts["opt"].site_width("blocks.0.mlp.hook_in")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_sites_are_there_in_half_precision(
    hosts: dict[str, HostModel], tiny_tokenizer: Any, name: str, dtype: torch.dtype
) -> None:
    host = HostModel.wrap(tiny_model(name, len(tiny_tokenizer), dtype), tiny_tokenizer, name)
    assert host.sites() == hosts[name].sites()


def test_an_mlp_that_reads_more_than_its_input_is_not_offered(tiny_tokenizer: Any) -> None:
    model = tiny_model("llama", len(tiny_tokenizer))
    block, aside = model.model.layers[1], []
    plain = block.mlp.forward
    block.input_layernorm.register_forward_hook(lambda _m, _a, out: aside.append(out))
    block.mlp.forward = lambda x: plain(x) + aside.pop()
    there = HostModel.wrap(model, tiny_tokenizer, "aside").sites()
    assert "blocks.1.mlp.hook_in" not in there and "blocks.0.mlp.hook_in" in there
    assert "blocks.1.hook_mlp_out" in there


@torch.no_grad()
@pytest.mark.parametrize("name", WITH_NORM)
@pytest.mark.parametrize("kind", ["mlp.hook_in", "ln2.hook_normalized"])
def test_an_edit_changes_what_the_mlp_reads_and_nothing_else(
    hosts: dict[str, HostModel], name: str, kind: str
) -> None:
    host, ids_BS = hosts[name], some_ids()
    mask_BS, last = torch.ones_like(ids_BS), host.n_layers - 1
    delta = torch.randn(32, generator=torch.Generator().manual_seed(1))
    site = f"blocks.{last}.{kind}"
    clean = host.logits(ids_BS, mask_BS)

    def shifted(acts: Tensor) -> Tensor:
        result = acts.clone()
        result[:, 5] += delta
        return result

    edited = host.logits(ids_BS, mask_BS, {site: shifted})
    # Before the last block's MLP, nothing later mixes tokens: the others keep their bits.
    others = torch.arange(ids_BS.shape[1]) != 5
    assert torch.equal(edited[:, others], clean[:, others])
    assert not torch.allclose(edited[:, 5], clean[:, 5])
    # The same logits as by adding to the stream what the MLP makes of the moved input.
    read, added = captured(host, "mlp.hook_in", "hook_mlp_out", layer=last)
    gain = host.norm_before_mlp(last).gain if kind.startswith("ln2") else torch.ones(32)
    moved = read.clone()
    moved[:, 5] += gain * delta
    made = mlp_of(host, last)(moved)
    post = getattr(host._trunk.blocks[last], "post_feedforward_layernorm", None)
    made = made if post is None else post(made)
    change = {f"blocks.{last}.hook_mlp_out": lambda acts: acts + (made - added)}
    torch.testing.assert_close(edited, host.logits(ids_BS, mask_BS, change), rtol=1e-3, atol=1e-4)
    assert torch.equal(host.logits(ids_BS, mask_BS, {site: lambda acts: acts}), clean)


def test_interventions_reach_the_new_sites(hosts: dict[str, HostModel]) -> None:
    host, ids_BS = hosts["llama"], some_ids()
    mask_BS = torch.ones_like(ids_BS)
    for kind in ("mlp.hook_in", "ln2.hook_normalized", "mlp.hook_out"):
        what = Direction(tuple([1.0] * 32), f"blocks.1.{kind}")
        edits = Interventions([add(what, 2.0)]).edits(mask_BS.bool())
        assert not torch.allclose(host.logits(ids_BS, mask_BS, edits), host.logits(ids_BS, mask_BS))


def _coder(kind: str) -> Any:
    options = {"d_sae": 40, "dead_after_tokens": 10}
    spec: Any = {
        "topk": TopKSpec(**options, k=6),
        "jumprelu": JumpReLUSpec(**options, initial_threshold=0.2),
        "gated": GatedSpec(**options),
        "skip": TranscoderSpec(**options, k=6, skip=True),
    }[kind]
    sae = create(spec, 32, 32)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        sae.initialise(generator)
        for name, parameter in sae.named_parameters():
            if name.startswith(("b_", "r_", "W_skip")):
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return sae.requires_grad_(False)


@pytest.mark.parametrize("coder", ["topk", "jumprelu", "gated", "skip"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_transcoder_moves_across_the_gain_exactly(
    hosts: dict[str, HostModel], name: str, coder: str
) -> None:
    host, sae = hosts[name], _coder(coder)
    at = "blocks.1.mlp.hook_in", "blocks.1.ln2.hook_normalized"
    read, normalised = (each.flatten(0, 1) for each in captured(host, at[0][9:], at[1][9:]))
    hosted = HostedSAE.at(host, sae, at[0], "blocks.1.hook_mlp_out")
    moved = moved_across_gain(hosted)
    assert moved.site == at[1] and moved.hooks.writes == hosted.hooks.writes
    scale = float(sae(read).abs().max())
    torch.testing.assert_close(moved.sae(normalised), sae(read), rtol=1e-5, atol=1e-6 * scale)
    back = moved_across_gain(moved)
    assert back.site == at[0]
    torch.testing.assert_close(back.sae(read), sae(read), rtol=1e-5, atol=1e-6 * scale)
    double = _coder(coder).double()
    norm = host.norm_before_mlp(1)
    x_ND = normalised.double() * norm.gain.double() + norm.shift.double()
    exact = _coder(coder).double()
    exact.read_affine(norm.gain.double(), norm.shift.double())
    torch.testing.assert_close(exact(normalised.double()), double(x_ND), rtol=0, atol=1e-6)


def test_what_cannot_move_is_refused(hosts: dict[str, HostModel], tiny_tokenizer: Any) -> None:
    host, sae = hosts["llama"], _coder("topk")
    with pytest.raises(DataError, match="no gain of a norm"):
        moved_across_gain(
            HostedSAE.at(host, sae, "blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out")
        )
    plain = create(TopKSpec(d_sae=8, k=2), 32)
    with pytest.raises(DataError, match="reconstructs"):
        moved_across_gain(HostedSAE.at(host, plain, "blocks.1.mlp.hook_in"))
    with pytest.raises(UnknownSite, match="no norm before it"):
        moved_across_gain(
            HostedSAE.at(hosts["olmo2"], sae, "blocks.1.mlp.hook_in", "blocks.1.hook_mlp_out")
        )
    model = tiny_model("llama", len(tiny_tokenizer))
    with torch.no_grad():
        model.model.layers[1].post_attention_layernorm.weight[3] = 1e-6
    small = HostModel.wrap(model, tiny_tokenizer, "small")
    site = "blocks.1.ln2.hook_normalized"
    with pytest.raises(DataError, match="too little to divide by"):
        moved_across_gain(HostedSAE.at(small, sae, site, "blocks.1.hook_mlp_out"))


def test_directions_that_an_mlp_reads_promote_no_tokens(hosts: dict[str, HostModel]) -> None:
    host = hosts["gemma2"]
    with pytest.raises(ModelError, match="none of the stream"):
        host.output_directions("blocks.1.mlp.hook_in", torch.eye(32))
    lens = LogitLens(host, Hooks.at("blocks.1.mlp.hook_in"), 3)
    assert lens.missing is not None and "makes something else" in lens.missing
    assert lens.effects(torch.eye(32)).promoted.shape == (32, 0)
    raw, added = (each.flatten(0, 1) for each in captured(host, "mlp.hook_out", "hook_mlp_out"))
    cosine = torch.nn.functional.cosine_similarity(
        host.output_directions("blocks.1.mlp.hook_out", raw), added
    )
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


@pytest.mark.parametrize("kind", ["ln2.hook_normalized", "mlp.hook_in", "mlp.hook_out"])
def test_the_cache_keeps_them(
    tiny_host: HostModel, tiny_store: TokenStore, tmp_path: Path, kind: str
) -> None:
    site = f"blocks.2.{kind}"
    rows = np.array([3, 9, 4])
    plain, _ = ActivationSource(tiny_host, tiny_store, site, None).rows(rows)
    source = ActivationSource(tiny_host, tiny_store, site, tmp_path / "c")
    source.rows(rows)
    source.close()
    again = ActivationSource(None, tiny_store, site, tmp_path / "c")
    kept, _ = again.rows(rows)
    again.close()
    assert torch.equal(kept, plain.bfloat16().float())
