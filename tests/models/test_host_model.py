"""Identities between sites, truncation, padding, hooks and what the host says of itself."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monosemy.errors import ModelError, UnknownSite
from monosemy.models.architecture import linear_weight
from monosemy.models.host import HostModel
from tests.support.tiny_models import CONFIGURATIONS, tiny_model


@pytest.fixture(scope="module")
def hosts(tiny_tokenizer: Any) -> dict[str, HostModel]:
    return {
        name: HostModel.wrap(tiny_model(name, len(tiny_tokenizer)), tiny_tokenizer, name)
        for name in CONFIGURATIONS
    }


def some_ids(rows: int = 2, columns: int = 12, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 300, (rows, columns), generator=generator)


def everything(host: HostModel, ids_BS: Tensor) -> dict[str, Tensor]:
    return host.capture(ids_BS, torch.ones_like(ids_BS), host.sites())


def hook_count(host: HostModel) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)
        for module in host.model.modules()
    )


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "olmo2", "bloom", "opt"])
def test_the_stream_adds_up_in_sequential_blocks(hosts: dict[str, HostModel], name: str) -> None:
    acts = everything(hosts[name], some_ids())
    for layer in range(hosts[name].n_layers):
        block = f"blocks.{layer}."
        mid = acts[block + "hook_resid_pre"] + acts[block + "hook_attn_out"]
        post = acts[block + "hook_resid_mid"] + acts[block + "hook_mlp_out"]
        torch.testing.assert_close(mid, acts[block + "hook_resid_mid"])
        torch.testing.assert_close(post, acts[block + "hook_resid_post"])
        if layer:
            before = acts[f"blocks.{layer - 1}.hook_resid_post"]
            torch.testing.assert_close(before, acts[block + "hook_resid_pre"])


@pytest.mark.parametrize("name", ["neox-parallel", "gptj", "falcon"])
def test_the_stream_adds_up_in_parallel_blocks(hosts: dict[str, HostModel], name: str) -> None:
    acts = everything(hosts[name], some_ids())
    assert not any("resid_mid" in site for site in acts)
    for layer in range(hosts[name].n_layers):
        block = f"blocks.{layer}."
        parts = [acts[block + part] for part in ("hook_resid_pre", "hook_attn_out", "hook_mlp_out")]
        torch.testing.assert_close(sum(parts), acts[block + "hook_resid_post"])


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2", "neox-parallel"])
def test_projections_give_what_the_branches_add(hosts: dict[str, HostModel], name: str) -> None:
    host = hosts[name]
    acts = everything(host, some_ids())
    for inner, outer in (("attn.hook_z", "hook_attn_out"), ("mlp.hook_post", "hook_mlp_out")):
        site = f"blocks.1.{inner}"
        projection = host._sites.maps[1].points[inner].module
        bias = getattr(projection, "bias", None)
        product = acts[site] @ linear_weight(projection) + (0 if bias is None else bias)
        torch.testing.assert_close(product, acts[f"blocks.1.{outer}"])
        flat_FD = acts[site].reshape(-1, acts[site].shape[-1])
        torch.testing.assert_close(
            host.output_directions(site, flat_FD), flat_FD @ linear_weight(projection)
        )


def test_directions_pass_the_sandwich_norm(hosts: dict[str, HostModel]) -> None:
    """In Gemma 2 attention's output is normed before it is added, so its gain belongs to W_O."""
    host = hosts["gemma2"]
    acts = everything(host, some_ids())
    z_FD = acts["blocks.1.attn.hook_z"].reshape(-1, host.site_width("blocks.1.attn.hook_z"))
    added_FD = acts["blocks.1.hook_attn_out"].reshape(-1, host.d_model)
    found_FD = host.output_directions("blocks.1.attn.hook_z", z_FD)
    cosine = torch.nn.functional.cosine_similarity(found_FD, added_FD)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_directions_in_the_stream_stay_as_they_are(tiny_host: HostModel) -> None:
    directions_FD = torch.randn(3, 32)
    same_FD = tiny_host.output_directions("blocks.2.hook_mlp_out", directions_FD)
    assert torch.equal(same_FD, directions_FD)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_unembedding_with_gain_gives_the_logits(hosts: dict[str, HostModel], name: str) -> None:
    """norm(x) without its gain, times the gain we report, through W_U: the model's own logits."""
    host = hosts[name]
    ids_BS = some_ids()
    last = f"blocks.{host.n_layers - 1}.hook_resid_post"
    x_BSD = host.capture(ids_BS, torch.ones_like(ids_BS), [last])[last]
    norm = host._trunk.final_norm
    assert norm is not None
    w_u_DV, gain_D = host.unembedding()
    centred = "layernorm" in type(norm).__name__.lower()
    x_BSD = x_BSD - x_BSD.mean(-1, keepdim=True) if centred else x_BSD
    plain_BSD = x_BSD / x_BSD.square().mean(-1, keepdim=True).add(1e-6).sqrt()
    bias = getattr(norm, "bias", None)
    with torch.no_grad():
        logits_BSV = (plain_BSD * gain_D + (0 if bias is None else bias)) @ w_u_DV
    head_bias = getattr(host.model.get_output_embeddings(), "bias", None)
    logits_BSV = logits_BSV if head_bias is None else logits_BSV + head_bias
    clean_BSV = host.logits(ids_BS, torch.ones_like(ids_BS))
    cap = getattr(host.model.config, "final_logit_softcapping", None)
    if cap:
        logits_BSV = cap * torch.tanh(logits_BSV / cap)
    scaling = getattr(host.model.config, "logits_scaling", 1.0)
    torch.testing.assert_close(logits_BSV.detach() / scaling, clean_BSV, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "neox-parallel", "opt", "bloom"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(hosts: dict[str, HostModel], name: str, side: str) -> None:
    host = hosts[name]
    ids_BS = some_ids(rows=1, columns=9)
    padding = torch.full((1, 4), host.pad_id)
    parts = [ids_BS, padding] if side == "right" else [padding, ids_BS]
    padded_BS = torch.cat(parts, dim=1)
    mask_BS = torch.cat(
        [torch.ones_like(part) if part is ids_BS else torch.zeros_like(part) for part in parts], 1
    )
    # The other row is full: a batch where only some rows are padded.
    both_BS = torch.cat([padded_BS, some_ids(rows=1, columns=13, seed=1)])
    mask_BS = torch.cat([mask_BS, torch.ones(1, 13, dtype=torch.long)])
    site = "blocks.2.hook_resid_post"
    alone = host.capture(ids_BS, torch.ones_like(ids_BS), [site])[site]
    batched = host.capture(both_BS, mask_BS, [site])[site][:1][mask_BS[:1].bool()]
    torch.testing.assert_close(batched[None], alone, rtol=1e-4, atol=1e-4)
    logits = host.logits(both_BS, mask_BS)[:1][mask_BS[:1].bool()]
    clean = host.logits(ids_BS, torch.ones_like(ids_BS))
    torch.testing.assert_close(logits[None], clean, rtol=1e-3, atol=1e-3)


def test_capture_ends_after_the_deepest_site(tiny_host: HostModel) -> None:
    ran: list[str] = []
    watched = {
        "mlp 1": tiny_host._sites.maps[1].block.mlp,
        "block 2": tiny_host._sites.maps[2].block,
    }
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
        for name, module in watched.items()
    ]
    ids_BS = some_ids()
    try:
        tiny_host.capture(
            ids_BS, torch.ones_like(ids_BS), ["blocks.1.hook_resid_mid", "blocks.0.attn.hook_z"]
        )
        assert ran == []
        tiny_host.capture(ids_BS, torch.ones_like(ids_BS), ["blocks.1.hook_resid_post"])
        assert ran == ["mlp 1"]
    finally:
        for handle in handles:
            handle.remove()


def test_captured_tensors_are_not_changed_by_later_layers(hosts: dict[str, HostModel]) -> None:
    """Falcon adds attention's output to the MLP's in place."""
    host = hosts["falcon"]
    ids_BS = some_ids()
    site = "blocks.0.hook_mlp_out"
    alone = host.capture(ids_BS, torch.ones_like(ids_BS), [site])[site]
    torch.testing.assert_close(everything(host, ids_BS)[site], alone)


def test_hooks_are_gone_after_success_and_after_errors(tiny_host: HostModel) -> None:
    ids_BS = some_ids()
    mask_BS = torch.ones_like(ids_BS)
    before = hook_count(tiny_host)
    clean_BSV = tiny_host.logits(ids_BS, mask_BS)
    tiny_host.capture(ids_BS, mask_BS, tiny_host.sites())
    tiny_host.logits(ids_BS, mask_BS, {"blocks.1.hook_resid_mid": torch.neg})

    def fails(value: Tensor) -> Tensor:
        raise RuntimeError("edit failed")

    with pytest.raises(RuntimeError, match="edit failed"):
        tiny_host.logits(ids_BS, mask_BS, {"blocks.1.attn.hook_z": fails})
    breaking = tiny_host._trunk.blocks[0].register_forward_pre_hook(lambda *_: fails(clean_BSV))
    with pytest.raises(RuntimeError, match="edit failed"):
        tiny_host.capture(ids_BS, mask_BS, ["blocks.1.hook_resid_post"])
    breaking.remove()
    assert hook_count(tiny_host) == before
    assert torch.equal(tiny_host.logits(ids_BS, mask_BS), clean_BSV)


def test_threads_do_not_see_each_others_edits(tiny_host: HostModel) -> None:
    ids_BS = some_ids()
    mask_BS = torch.ones_like(ids_BS)
    clean_BSV = tiny_host.logits(ids_BS, mask_BS)
    wrong: list[float] = []
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            tiny_host.logits(ids_BS, mask_BS, {"blocks.0.hook_resid_post": torch.zeros_like})

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(30):
            difference = (tiny_host.logits(ids_BS, mask_BS) - clean_BSV).abs().max()
            wrong.append(float(difference))
    finally:
        stop.set()
        thread.join()
    assert max(wrong) == 0


def test_unknown_sites_are_refused_with_what_exists(hosts: dict[str, HostModel]) -> None:
    host = hosts["neox-parallel"]
    with pytest.raises(UnknownSite, match=r"no site 'blocks.0.hook_resid_mid'.*blocks 0-2: hook_"):
        host.site_width("blocks.0.hook_resid_mid")
    with pytest.raises(UnknownSite, match="blocks 0-2"):
        host.capture(some_ids(), torch.ones(2, 12), ["blocks.3.hook_resid_post"])
    with pytest.raises(UnknownSite, match=r"blocks\.LAYER\.KIND.*hook_resid_pre"):
        host.logits(some_ids(), torch.ones(2, 12), {"model.layers.0": torch.neg})


def test_unknown_architectures_are_refused(tiny_tokenizer: Any) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=400, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    with pytest.raises(ModelError, match="encoder-decoder"):
        HostModel.wrap(T5ForConditionalGeneration(config), tiny_tokenizer, "t5")

    model = tiny_model("llama", len(tiny_tokenizer))
    model.model.layers = nn.Sequential(*model.model.layers)
    with pytest.raises(ModelError, match="no list of 3 transformer blocks"):
        HostModel.wrap(model, tiny_tokenizer, "rebuilt")


def test_a_branch_that_is_not_what_it_seems_is_not_offered(tiny_tokenizer: Any) -> None:
    """A block that scales its MLP has no ``mlp.hook_post`` that leads to the stream unscaled."""
    model = tiny_model("llama", len(tiny_tokenizer))
    mlp = model.model.layers[1].mlp
    plain = mlp.forward
    mlp.forward = lambda x: plain(x) * 0.5
    host = HostModel.wrap(model, tiny_tokenizer, "scaled")
    assert "blocks.1.mlp.hook_post" not in host.sites()
    assert {"blocks.1.hook_mlp_out", "blocks.0.mlp.hook_post"} <= set(host.sites())


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "neox-parallel", "olmo2"])
def test_sites_are_the_same_in_bfloat16(
    hosts: dict[str, HostModel], name: str, tiny_tokenizer: Any
) -> None:
    model = tiny_model(name, len(tiny_tokenizer), torch.bfloat16)
    assert HostModel.wrap(model, tiny_tokenizer, name).sites() == hosts[name].sites()


def test_info_is_json_and_true(tiny_host: HostModel) -> None:
    import json

    info = json.loads(json.dumps(tiny_host.info()))
    assert info["architecture"] == "LlamaForCausalLM"
    assert (info["n_layers"], info["d_model"]) == (4, 32)
    assert info["d_vocab"] == len(tiny_host.tokenizer)
    assert len(info["sites"]) == 40
    assert info["dtype"] == "float32"
    assert info["has_chat_template"] is False
    assert len(tiny_host.token_bytes()) == info["d_vocab"]
