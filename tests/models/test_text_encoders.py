"""CLIP's text encoder as a host model: opened, proven, read, pooled, and what it lacks told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from monosemy.data.store import TokenStore
from monosemy.errors import DataError, ModelError
from monosemy.models.host import HostModel
from monosemy.models.memory import config_bytes
from monosemy.models.packing import check_blocks
from monosemy.models.resolve import ModelPlace, expected_bytes
from monosemy.models.rows import padded
from monosemy.models.sites import KINDS
from monosemy.models.text_embedding import text_embeddings
from monosemy.specs import ModelSpec, TextSpec
from monosemy.workspace import Workspace
from tests.support.tiny_clip import POSITIONS, captions, tiny_clip

TEXT = "Grey whales near the clock"


def load(folder: Path, dtype: Any = "float32") -> HostModel:
    spec = ModelSpec(name=str(folder), dtype=dtype, device="cpu")
    return HostModel.load(spec, Workspace(folder.parent / "artifacts"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("clip") / "text_encoder"
    tiny_clip(made)
    return made


@pytest.fixture(scope="module")
def host(folder: Path) -> HostModel:
    return load(folder)


def row(host: HostModel, text: str = TEXT) -> list[int]:
    return [int(i) for i in host.tokenizer(text)["input_ids"]]


def one(host: HostModel, text: str = TEXT) -> tuple[torch.Tensor, torch.Tensor]:
    return padded([row(host, text)], host.pad_id)


# ---------------------------------------------------------------------- sites and abilities
def test_every_site_is_proven_and_is_what_transformers_gives(host: HostModel) -> None:
    assert host.sites() == [f"blocks.{layer}.{kind}" for layer in range(3) for kind in KINDS]
    ids_BS, mask_BS = one(host)
    streams = host.model(input_ids=ids_BS, output_hidden_states=True).hidden_states
    acts = host.capture(ids_BS, mask_BS, host.sites())
    for layer in range(3):
        assert torch.equal(acts[f"blocks.{layer}.hook_resid_pre"], streams[layer])
        assert torch.equal(acts[f"blocks.{layer}.hook_resid_post"], streams[layer + 1])
        attention = host.model.encoder.layers[layer].self_attn
        z_BSD, out_BSD = (acts[f"blocks.{layer}.{k}"] for k in ("attn.hook_z", "hook_attn_out"))
        torch.testing.assert_close(attention.out_proj(z_BSD), out_BSD)
    assert host.abilities.heads == 4 and host.abilities.positions == POSITIONS


def test_it_says_what_it_has_not(host: HostModel) -> None:
    abilities = host.info()["abilities"]
    lacking = ("logits", "generation", "cache", "unembedding")
    assert abilities["causality"] and not any(abilities[name] for name in lacking)
    assert set(abilities["reasons"]) == set(lacking)
    assert all("text encoder" in reason for reason in abilities["reasons"].values())
    assert abilities["text_embedding"] == "pooled"
    with pytest.raises(ModelError, match="predicts no tokens: it is a text encoder") as error:
        host.logits(*one(host))
    assert "Take a causal language model." in str(error.value.advice)
    with pytest.raises(ModelError, match="no logits of their own"):
        host.unembedding()
    with pytest.raises(ModelError, match="cannot run several texts in one row"):
        check_blocks(host)


def test_one_that_sees_later_tokens_is_refused_whatever_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = transformers.CLIPTextModel.from_pretrained(folder)
    usual = model.encoder.forward

    def both_ways(inputs_embeds: torch.Tensor, **_: Any) -> Any:
        return usual(inputs_embeds=inputs_embeds, attention_mask=None, is_causal=False)

    monkeypatch.setattr(model.encoder, "forward", both_ways)
    with pytest.raises(ModelError, match="not causal"):
        HostModel.wrap(model, transformers.CLIPTokenizer.from_pretrained(folder), "both ways")


# ---------------------------------------------------------------------- files
def test_files_of_every_kind_give_the_same_model(folder: Path, tmp_path: Path) -> None:
    """Those of today, of when names had a prefix, and of a whole CLIP."""
    host = load(folder)
    old = tmp_path / "old"
    tiny_clip(old)
    names = load_file(old / "model.safetensors")
    older = {f"text_model.{name}": value for name, value in names.items()}
    older["text_model.embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    save_file(older, old / "model.safetensors", {"format": "pt"})
    assert load(old).fingerprint == host.fingerprint
    halved = load(old, "bfloat16")
    assert halved.fingerprint == host.fingerprint and halved.dtype == torch.bfloat16

    whole = tiny_clip(tmp_path / "whole", "CLIPModel")
    part = load(tmp_path / "whole")
    assert type(part.model).__name__ == "CLIPTextModelWithProjection"
    ids_BS, mask_BS = one(part)
    features = whole.get_text_features(input_ids=ids_BS).pooler_output
    torch.testing.assert_close(text_embeddings(part, ids_BS, mask_BS), features)
    site = "blocks.1.hook_resid_post"
    streams = whole.text_model(input_ids=ids_BS, output_hidden_states=True).hidden_states
    assert torch.equal(part.capture(ids_BS, mask_BS, [site])[site], streams[2])
    taken = sum(each.numel() for each in part.model.parameters())
    spec = ModelSpec(name=str(tmp_path / "whole"), dtype="float32", device="cpu")
    assert expected_bytes(ModelPlace(spec.name), spec) == 4 * taken
    assert config_bytes(host.model.config, torch.bfloat16, 2**40, "x") == 2 * sum(
        each.numel() for each in host.model.parameters()
    )


@pytest.mark.parametrize("lacks", ["text_projection.weight", "text_model.final_layer_norm.bias"])
def test_nothing_that_the_files_lack_is_made_up(tmp_path: Path, lacks: str) -> None:
    tiny_clip(tmp_path / "clip", "CLIPTextModelWithProjection")
    file = tmp_path / "clip" / "model.safetensors"
    weights = load_file(file)
    del weights[lacks]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelError, match=f"lack 1 weights.*{lacks}"):
        load(tmp_path / "clip")


def test_its_vision_model_is_none(tmp_path: Path) -> None:
    tiny_clip(tmp_path / "clip", "CLIPModel")
    config = json.loads((tmp_path / "clip" / "config.json").read_text())
    vision = {**config["vision_config"], "architectures": ["CLIPVisionModel"]}
    (tmp_path / "clip" / "config.json").write_text(json.dumps(vision))
    with pytest.raises(
        ModelError, match=r"\(CLIPVisionModel\) is no causal language model"
    ) as error:
        load(tmp_path / "clip")
    assert "CLIP text encoder" in str(error.value.advice)


# ---------------------------------------------------------------------- tokens
def test_a_store_of_its_tokens_has_bos_eos_and_words_with_their_blanks(
    host: HostModel, tmp_path: Path
) -> None:
    file = tmp_path / "captions.jsonl"
    file.write_text("".join(json.dumps({"text": each}) + "\n" for each in captions()), "utf-8")
    with pytest.raises(DataError, match="more than the 77 positions"):
        TokenStore.build(TextSpec(source=str(file)), host, tmp_path / "long")
    text = TextSpec(source=str(file), context_size=POSITIONS)
    store = TokenStore.build(text, host, tmp_path / "store")
    bos, eos = host.tokenizer.bos_token_id, host.tokenizer.eos_token_id
    assert (store.bos_id, store.pad_id, store.meta["separator_id"]) == (bos, eos, eos)
    batch = store.batch([0, 40])
    wanted = [row(host, captions()[number]) for number in (0, 40)]
    assert batch.ids_BS[0, : len(wanted[0])].tolist() == wanted[0]
    assert batch.mask_BS.sum(1).tolist() == list(map(len, wanted))
    assert batch.position_BS[0, 0] == -1 and batch.position_BS[0, len(wanted[0]) - 1] >= 0
    pieces = store.token_bytes().pieces(wanted[0])
    assert "".join(pieces[1:-1]) == captions()[0].lower() + " "
    assert pieces[0] == "<|startoftext|>" and pieces[-1] == "<|endoftext|>"


# ---------------------------------------------------------------------- embeddings
@pytest.mark.parametrize("eos", [None, 2])
def test_a_text_is_pooled_at_its_end_whatever_pads_it(tmp_path: Path, eos: int | None) -> None:
    """``eos_token_id`` is 2 in the configurations of Stable Diffusion 1 and CLIP's first ones."""
    options = {} if eos is None else {"eos_token_id": eos}
    model = tiny_clip(tmp_path / "clip", **options)
    host = load(tmp_path / "clip")
    assert host.abilities.text_end == host.tokenizer.eos_token_id
    rows = [row(host), row(host, "a clock"), row(host, "two bridges and a river")]
    together_BE = text_embeddings(host, *padded(rows, host.pad_id))
    for ids, value_E in zip(rows, together_BE, strict=True):
        full = torch.tensor([ids + [host.pad_id] * (POSITIONS - len(ids))])
        torch.testing.assert_close(model(input_ids=full).pooler_output[0], value_E)


def test_a_language_model_has_the_mean_of_its_last_stream(tiny_host: HostModel) -> None:
    assert tiny_host.info()["abilities"]["text_embedding"] == "mean_stream"
    rows = [[0, 5, 6, 7, 8], [0, 9, 10]]
    ids_BS, mask_BS = padded(rows, tiny_host.pad_id)
    last = "blocks.3.hook_resid_post"
    acts_BSD = tiny_host.capture(ids_BS, mask_BS, [last])[last]
    means = torch.stack([acts_BSD[0, 1:5].mean(0), acts_BSD[1, 1:3].mean(0)])
    torch.testing.assert_close(text_embeddings(tiny_host, ids_BS, mask_BS, skip=1), means)
    doubled = text_embeddings(tiny_host, ids_BS, mask_BS, {last: lambda x: 2 * x}, skip=1)
    torch.testing.assert_close(doubled, 2 * means)


def test_what_pools_elsewhere_is_no_text_encoder(folder: Path) -> None:
    model = transformers.CLIPTextModel.from_pretrained(folder)
    model.eos_token_id = 5  # not in the text: the first token is pooled, in every text the same
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    host = HostModel.wrap(model, tokenizer, "pools nowhere")
    assert host.abilities.text_end is None and not host.abilities.logits
