"""What a model must be to be a host, proved at load; and what it may lack, told by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from monosemy.data.store import TokenStore
from monosemy.errors import DataError, ModelError
from monosemy.evals.evaluate import evaluate_sae
from monosemy.hosted_sae import HostedSAE
from monosemy.index.builder import build_index
from monosemy.models.activations import ActivationSource
from monosemy.models.host import HostModel
from monosemy.saes.registry import create
from monosemy.specs import EvaluationSpec, IndexingSpec, ModelSpec, TextSpec, TopKSpec
from monosemy.workspace import Workspace
from tests.support.tiny_models import CONFIGURATIONS, tiny_from, tiny_model

SITE = "blocks.1.hook_resid_post"
_ENCODER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


def wrapped(model: Any, tokenizer: Any) -> HostModel:
    return HostModel.wrap(model, tokenizer, "tiny")


def saved(model: Any, tokenizer: Any, folder: Path) -> ModelSpec:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ModelSpec(name=str(folder), dtype="float32", device="cpu")


# What is refused


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", ["BertConfig", "RobertaConfig", "ElectraConfig"])
def test_an_encoder_that_loads_as_causal_is_refused(
    tiny_tokenizer: Any, config: str, dtype: torch.dtype
) -> None:
    model = tiny_from(config, len(tiny_tokenizer), _ENCODER).to(dtype)
    with pytest.raises(ModelError, match="not causal: other tokens later"):
        wrapped(model, tiny_tokenizer)
    decoder = tiny_from(config, len(tiny_tokenizer), {**_ENCODER, "is_decoder": True}).to(dtype)
    host = wrapped(decoder, tiny_tokenizer)
    if config != "ElectraConfig":
        assert host.abilities.logits and host.abilities.cache
        # A dense layer and a norm stand between the stream and BERT's logits.
        assert "more than a norm and a matrix" in str(host.abilities.no_unembedding)


def mixing(model: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """``model`` with its second block's output changed."""

    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        new = change(first)
        return (new, *output[1:]) if isinstance(output, tuple) else new

    model.model.layers[1].register_forward_hook(hook)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x + 0.05 * x.mean(1, keepdim=True), "not causal"),
        (lambda x: x + 0.05 * x.roll(-1, 1), "not causal"),
        (lambda x: x - x.mean(0, keepdim=True), "alone"),
        (lambda x: x * x.shape[1], "alone"),
        (lambda x: x * float("inf"), "not finite"),
    ],
)
def test_leaks_between_tokens_and_rows_are_found(
    tiny_tokenizer: Any, change: Callable[[torch.Tensor], torch.Tensor], words: str, dtype: Any
) -> None:
    model = mixing(tiny_model("llama", len(tiny_tokenizer), dtype), change)
    with pytest.raises(ModelError, match=words):
        wrapped(model, tiny_tokenizer)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [name for name in CONFIGURATIONS if name != "mamba"])
def test_causal_models_pass_in_every_precision(
    tiny_tokenizer: Any, name: str, dtype: torch.dtype
) -> None:
    host = wrapped(tiny_model(name, len(tiny_tokenizer), dtype), tiny_tokenizer)
    assert host.abilities.logits and host.abilities.cache
    assert host.abilities.no_unembedding is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "name", ["model.embed_tokens.weight", "model.layers.2.mlp.up_proj.weight", "lm_head.weight"]
)
def test_weights_that_are_not_finite_are_named(
    tiny_tokenizer: Any, name: str, value: float
) -> None:
    model = tiny_model("llama", len(tiny_tokenizer))
    with torch.no_grad():
        model.get_parameter(name).view(-1)[5:8] = value
    with pytest.raises(ModelError, match=rf"not finite: {name} has 3 of \d+ values"):
        wrapped(model, tiny_tokenizer)


def test_a_buffer_may_hold_minus_infinity_but_no_nan(tiny_tokenizer: Any) -> None:
    model = tiny_model("llama", len(tiny_tokenizer))
    model.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    assert wrapped(model, tiny_tokenizer).abilities.logits
    model.mask[0] = float("nan")
    with pytest.raises(ModelError, match="not finite: mask has 1 of 2"):
        wrapped(model, tiny_tokenizer)


def test_packed_weights_are_refused_by_their_method(tiny_tokenizer: Any) -> None:
    model = tiny_model("llama", len(tiny_tokenizer))
    packed = torch.zeros(4, 4, dtype=torch.int8)
    model.model.layers[0].mlp.up_proj.weight = nn.Parameter(packed, requires_grad=False)
    model.config.quantization_config = {"quant_method": "someway"}
    with pytest.raises(ModelError, match=r"quantised \(someway\)"):
        wrapped(model, tiny_tokenizer)


def test_the_tokenizer_of_another_model_is_refused(tiny_tokenizer: Any) -> None:
    with pytest.raises(ModelError, match="that of another model: 100 of its ordinary tokens"):
        wrapped(tiny_model("llama", len(tiny_tokenizer) - 100), tiny_tokenizer)


@pytest.mark.parametrize(
    ("config", "options", "head", "words"),
    [
        ("T5Config", {"d_model": 32, "num_layers": 2, "d_ff": 64, "num_heads": 4, "d_kv": 8},
         "AutoModelForSeq2SeqLM", "T5ForConditionalGeneration.* is an encoder-decoder"),
        ("BartConfig", {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1,
                        "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
                        "encoder_attention_heads": 4, "decoder_attention_heads": 4},
         "AutoModelForSeq2SeqLM", "BartForConditionalGeneration.* is an encoder-decoder"),
        ("DistilBertConfig", {"dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 64},
         "AutoModelForMaskedLM", "DistilBertForMaskedLM.* is no causal language model"),
        ("AlbertConfig", {**_ENCODER, "embedding_size": 16},
         "AutoModelForMaskedLM", "AlbertForMaskedLM.* is no causal language model"),
        ("BertConfig", _ENCODER, "AutoModelForMaskedLM", "not causal"),
    ],
)  # fmt: skip
def test_other_kinds_are_refused_by_name_at_load(
    tiny_tokenizer: Any, tmp_path: Path, config: str, options: Any, head: str, words: str
) -> None:
    model = tiny_from(config, len(tiny_tokenizer), options, head)
    spec = saved(model, tiny_tokenizer, tmp_path / "model")
    with pytest.raises(ModelError, match=words):
        HostModel.load(spec, Workspace(tmp_path / "artifacts"))


def test_weights_that_the_files_lack_are_named(tiny_tokenizer: Any, tmp_path: Path) -> None:
    """transformers would fill them in at random, differently at each load."""
    spec = saved(tiny_model("llama", len(tiny_tokenizer)), tiny_tokenizer, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 weights.*layers\.1\.mlp\.up_proj"):
        HostModel.load(spec, Workspace(tmp_path / "artifacts"))


def test_files_without_a_tokenizer_say_so(tiny_tokenizer: Any, tmp_path: Path) -> None:
    tiny_model("llama", len(tiny_tokenizer)).save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match="Cannot load the tokenizer"):
        HostModel.load(ModelSpec(name=str(tmp_path / "model")), Workspace(tmp_path / "artifacts"))


# What may be lacking


def headless(tokenizer: Any, folder: Path, head: str) -> HostModel:
    options = dict(CONFIGURATIONS["llama"][1])
    model = tiny_from("LlamaConfig", len(tokenizer), options, head)
    return HostModel.load(saved(model, tokenizer, folder / "model"), Workspace(folder / "home"))


@pytest.mark.parametrize("head", ["AutoModel", "AutoModelForSequenceClassification"])
def test_a_model_without_a_head_is_read_evaluated_and_indexed(
    tiny_tokenizer: Any, tiny_text: TextSpec, tmp_path: Path, head: str
) -> None:
    host = headless(tiny_tokenizer, tmp_path, head)
    assert "no unembedding" in str(host.abilities.no_logits)
    ids_BS = torch.arange(3, 11)[None]
    with pytest.raises(ModelError, match="predicts no tokens: its files hold no unembedding"):
        host.logits(ids_BS, torch.ones_like(ids_BS))
    with pytest.raises(ModelError, match="predicts no tokens"):
        host.extend(ids_BS)
    with pytest.raises(ModelError, match="no logits of their own"):
        host.unembedding()
    # Nothing of it is made up: it is the same model at each load.
    again = HostModel.load(
        ModelSpec(name=host.name, dtype="float32", device="cpu"), Workspace(tmp_path / "home")
    )
    assert again.fingerprint == host.fingerprint

    store = TokenStore.build(tiny_text, host, tmp_path / "text")
    source = ActivationSource(host, store, SITE, None)
    sae = create(TopKSpec(d_sae=16, k=2), host.d_model)
    sae.initialise(torch.Generator().manual_seed(0))
    hosted = HostedSAE.at(host, sae, SITE)
    metrics = evaluate_sae(hosted, None, store, source, EvaluationSpec(tokens=256))
    assert metrics["fvu"] > 0 and metrics["ce_clean"] is None and metrics["splice_tokens"] == 0
    with pytest.raises(DataError, match="no perplexity"):
        asked = EvaluationSpec(tokens=256, ppl_percent=5.0)
        evaluate_sae(hosted, None, store, source, asked)
    reader = build_index(hosted, source, store, tmp_path / "index", IndexingSpec())
    assert reader.evidence(0).promoted == [] and reader.evidence(0).logit_std == 0
    assert any(reader.examples(feature) for feature in range(16))


def test_a_head_of_several_parts_may_be_missing_too(tiny_tokenizer: Any, tmp_path: Path) -> None:
    options = {**_ENCODER, "is_decoder": True}
    model = tiny_from("BertConfig", len(tiny_tokenizer), options, "AutoModel")
    spec = saved(model, tiny_tokenizer, tmp_path / "model")
    host = HostModel.load(spec, Workspace(tmp_path / "artifacts"))
    assert "no unembedding" in str(host.abilities.no_logits)
    assert host.sites()


def test_a_head_of_classes_is_no_unembedding(tiny_tokenizer: Any) -> None:
    options = {**CONFIGURATIONS["llama"][1], "num_labels": 3}
    model = tiny_from(
        "LlamaConfig", len(tiny_tokenizer), options, "AutoModelForTokenClassification"
    )
    assert not wrapped(model, tiny_tokenizer).abilities.logits


def test_a_projected_embedding_has_an_unembedding(
    tiny_tokenizer: Any, tiny_text: TextSpec, tmp_path: Path
) -> None:
    """OPT-350M: the stream is wider than the embedding, and is projected before W_U."""
    options = {**CONFIGURATIONS["opt"][1], "word_embed_proj_dim": 16, "do_layer_norm_before": False}
    host = wrapped(tiny_from("OPTConfig", len(tiny_tokenizer), options), tiny_tokenizer)
    matrix_DV, gain_D = host.unembedding()
    ids_BS = torch.arange(3, 15)[None]
    last = f"blocks.{host.n_layers - 1}.hook_resid_post"
    x_SD = host.capture(ids_BS, torch.ones_like(ids_BS), [last])[last][0]
    logits_SV = host.logits(ids_BS, torch.ones_like(ids_BS))[0]
    torch.testing.assert_close((x_SD * gain_D) @ matrix_DV, logits_SV, rtol=1e-4, atol=1e-5)
    store = TokenStore.build(tiny_text, host, tmp_path / "text")
    source = ActivationSource(host, store, SITE, None)
    sae = create(TopKSpec(d_sae=16, k=2), host.d_model)
    sae.initialise(torch.Generator().manual_seed(0))
    hosted = HostedSAE.at(host, sae, SITE)
    reader = build_index(hosted, source, store, tmp_path / "index", IndexingSpec())
    assert len(reader.evidence(0).promoted) == 10


@pytest.mark.parametrize(
    ("config", "options", "reason"),
    [
        ("MambaConfig", {"hidden_size": 32, "num_hidden_layers": 2}, "keeps no keys"),
        ("OpenAIGPTConfig", {"n_embd": 32, "n_layer": 2, "n_head": 4}, "keeps no keys"),
        (
            "RwkvConfig",
            {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32},
            "keeps no keys",
        ),
    ],
)
def test_a_model_without_a_cache_says_why(
    tiny_tokenizer: Any, config: str, options: Any, reason: str
) -> None:
    host = wrapped(tiny_from(config, len(tiny_tokenizer), options), tiny_tokenizer)
    assert host.abilities.logits and reason in str(host.abilities.no_cache)
    with pytest.raises(ModelError, match="no usable cache"):
        host.extend(torch.arange(3, 9)[None])


def test_a_multimodal_wrapper_reads_text(tiny_tokenizer: Any) -> None:
    """The vision tower's table of positions is no limit of text."""
    text = {**CONFIGURATIONS["gemma3"][1], "vocab_size": len(tiny_tokenizer)}
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    config = transformers.Gemma3Config(text_config=text, vision_config=vision)
    torch.manual_seed(0)
    host = wrapped(transformers.Gemma3ForConditionalGeneration(config), tiny_tokenizer)
    assert host.abilities.positions == 128 and host.abilities.cache


def test_a_host_declares_what_it_has(
    tiny_host: HostModel, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    whole = tiny_host.info()["abilities"]
    assert whole["reasons"] == {} and all(
        whole[name] for name in ("causality", "logits", "generation", "cache", "unembedding")
    )
    assert whole["heads"] == tiny_host.model.config.num_attention_heads
    lacking = headless(tiny_tokenizer, tmp_path, "AutoModel").info()["abilities"]
    assert (lacking["causality"], lacking["logits"], lacking["generation"]) == (True, False, False)
    assert "no unembedding" in lacking["reasons"]["generation"]
    mamba = wrapped(tiny_model("mamba", len(tiny_tokenizer)), tiny_tokenizer)
    assert mamba.info()["abilities"]["heads"] is None
