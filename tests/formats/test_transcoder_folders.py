"""Sets, transcoders, cross-layer transcoders and crosscoders of other libraries: folders written
here as theirs are, and read to what their formulas give."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from monosemy.errors import DataError
from monosemy.formats import circuit_tracer
from monosemy.formats.load import layers_in, open_sae
from monosemy.formats.opened import OpenedSAE, Wanted
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import (
    BatchTopKSpec,
    CLTSpec,
    JumpReLUCLTSpec,
    JumpReLUSpec,
    MatchingPursuitSpec,
    ReLUSpec,
    TopKSpec,
)
from monosemy.specs.hooks import Hooks

D, F, L, N, K = 6, 10, 3, 40, 3


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = randn(N, D, seed=99) * 2
X_LAYERS = randn(N, L, D, seed=98) * 2
"""What each of L layers, or places, reads."""


def relu(x: Tensor) -> Tensor:
    return x.clamp_min(0)


def jump(pre: Tensor, threshold: Tensor | float) -> Tensor:
    return pre * (pre > threshold)


def top(pre: Tensor) -> Tensor:
    kept = pre.topk(K, dim=1).indices
    return torch.zeros_like(pre).scatter(1, kept, relu(pre.gather(1, kept)))


def sites(opened: OpenedSAE) -> tuple[list[str], list[str]]:
    hooks = Hooks.from_dict(opened.metadata["hooks"])
    return [str(hook) for hook in hooks.reads], [str(hook) for hook in hooks.writes]


def same(sae: SAE, x: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(sae(x), wanted, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------ circuit-tracer
def layer_of_set(layer: int, skip: bool, threshold: bool) -> dict[str, Tensor]:
    tensors = {
        "W_enc": randn(F, D, seed=10 * layer),
        "b_enc": randn(F, seed=10 * layer + 1),
        "W_dec": randn(F, D, seed=10 * layer + 2),
        "b_dec": randn(D, seed=10 * layer + 3),
    }
    if skip:
        tensors["W_skip"] = randn(D, D, seed=10 * layer + 4)
    if threshold:
        tensors["activation_function.threshold"] = randn(F, seed=10 * layer + 5).abs()
    return tensors


def set_folder(folder: Path, skip: bool = False, threshold: bool = False, **config: Any) -> Path:
    folder.mkdir()
    for layer in range(L):
        save_file(layer_of_set(layer, skip, threshold), folder / f"layer_{layer}.safetensors")
    named = {
        "model_name": "some/model",
        "model_kind": "transcoder_set",
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "hook_mlp_out",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump({**named, **config}))
    return folder


def set_formula(folder: Path, layer: int, x: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
    t = load_file(folder / f"layer_{layer}.safetensors")
    y = act(x @ t["W_enc"].T + t["b_enc"]) @ t["W_dec"] + t["b_dec"]
    return y + x @ t["W_skip"].T if "W_skip" in t else y


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("kind", ["relu", "jumprelu", "topk", "older"])
def test_a_set_of_circuit_tracer_is_read_by_its_formula(
    kind: str, skip: bool, tmp_path: Path
) -> None:
    config: dict[str, Any] = {"topk": {"activation": "topk", "k": K}, "older": {}}.get(
        kind, {"activation": "relu"}
    )
    folder = set_folder(tmp_path / "set", skip, kind == "jumprelu", **config)
    assert layers_in(folder) == [0, 1, 2]
    opened = open_sae(folder, Wanted(layer=1))
    threshold = load_file(folder / "layer_1.safetensors").get("activation_function.threshold")
    act = top if kind == "topk" else relu
    if threshold is not None:

        def act(pre: Tensor) -> Tensor:
            return jump(pre, threshold)

    same(opened.sae, X, set_formula(folder, 1, X, act))
    assert sites(opened) == (["blocks.1.mlp.hook_in"], ["blocks.1.hook_mlp_out"])
    assert opened.metadata["model_name"] == "some/model" and opened.format == "circuit_tracer"


def test_transformer_lens_calls_the_stream_before_the_norm_hook_mlp_in(tmp_path: Path) -> None:
    folder = set_folder(tmp_path / "set", feature_input_hook="hook_mlp_in")
    assert sites(open_sae(folder, Wanted(2)))[0] == ["blocks.2.hook_resid_mid"]


@pytest.mark.parametrize(
    ("change", "layer", "says"),
    [
        ({}, None, "a transcoder for each of 3 layers, 0 to 2"),
        ({}, 7, "none for layer 7"),
        ({"feature_input_hook": "hook_q"}, 0, "feature_input_hook is 'hook_q'"),
        ({"feature_input_hook": None}, 0, "feature_input_hook is None"),
        ({"model_kind": "lorsa"}, 0, "model_kind is 'lorsa'"),
        ({"activation": "topk"}, 0, "lacks 'k'"),
        ({"activation": "topk", "k": "many"}, 0, "k is 'many'"),
        ({"activation": "topk", "k": 99}, 0, "larger than d_sae"),
    ],
)
def test_a_set_that_cannot_be_read_says_why(
    change: dict[str, Any], layer: int | None, says: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=says):
        open_sae(set_folder(tmp_path / "set", **change), Wanted(layer))


@pytest.mark.parametrize(
    "text", ["- 1", "a: &a [1]\nb: *a", "a: !!python/object:os.system {}", "{", "\x00", "x" * 2**21]
)
def test_a_foreign_yaml_is_not_trusted(text: str, tmp_path: Path) -> None:
    folder = set_folder(tmp_path / "set")
    (folder / "config.yaml").write_text(text)
    with pytest.raises(DataError, match=r"config\.yaml"):
        open_sae(folder, Wanted(0))


def changed_set(folder: Path, **tensors: Tensor | None) -> Path:
    file = set_folder(folder) / "layer_0.safetensors"
    kept = {**load_file(file), **tensors}
    save_file({name: value for name, value in kept.items() if value is not None}, file)
    return folder


@pytest.mark.parametrize(
    "tensors",
    [
        {"W_enc": None},
        {"W_enc": randn(D, F, seed=1)},
        {"W_enc": randn(F, seed=1)},
        {"W_dec": randn(F, D, 2, seed=1)},
        {"b_enc": randn(F + 1, seed=1)},
        {"W_skip": randn(D, D + 1, seed=1)},
        {"activation_function.threshold": randn(3, seed=1)},
    ],
    ids=lambda tensors: next(iter(tensors)),
)
def test_tensors_that_do_not_fit_are_refused(
    tensors: dict[str, Tensor | None], tmp_path: Path
) -> None:
    with pytest.raises(DataError):
        open_sae(changed_set(tmp_path / "set", **tensors), Wanted(0))


def clt_folder(folder: Path, threshold: bool = True) -> Path:
    folder.mkdir()
    for layer in range(L):
        encoder = {
            f"W_enc_{layer}": randn(F, D, seed=layer),
            f"b_enc_{layer}": randn(F, seed=10 + layer),
            f"b_dec_{layer}": randn(D, seed=20 + layer),
        }
        if threshold:
            encoder[f"threshold_{layer}"] = randn(F, seed=30 + layer).abs()
        save_file(encoder, folder / f"W_enc_{layer}.safetensors")
        decoder = {f"W_dec_{layer}": randn(F, L - layer, D, seed=40 + layer)}
        save_file(decoder, folder / f"W_dec_{layer}.safetensors")
    config = {
        "model_name": "some/model",
        "model_kind": "cross_layer_transcoder",
        "feature_input_hook": "hook_resid_mid",
        "feature_output_hook": "hook_mlp_out",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def clt_formula(folder: Path, x_NLD: Tensor) -> Tensor:
    written = [torch.zeros(len(x_NLD), D) for _ in range(L)]
    for layer in range(L):
        t = load_file(folder / f"W_enc_{layer}.safetensors")
        rows = load_file(folder / f"W_dec_{layer}.safetensors")[f"W_dec_{layer}"]
        pre = x_NLD[:, layer] @ t[f"W_enc_{layer}"].T + t[f"b_enc_{layer}"]
        acts = jump(pre, t.get(f"threshold_{layer}", torch.zeros(F)))
        for target in range(layer, L):
            written[target] = written[target] + acts @ rows[:, target - layer]
        written[layer] = written[layer] + t[f"b_dec_{layer}"]
    return torch.cat(written, 1)


@pytest.mark.parametrize("threshold", [True, False])
def test_a_cross_layer_transcoder_of_circuit_tracer(threshold: bool, tmp_path: Path) -> None:
    folder = clt_folder(tmp_path / "clt", threshold)
    assert layers_in(folder) == []
    opened = open_sae(folder)
    same(opened.sae, X_LAYERS.flatten(1), clt_formula(folder, X_LAYERS))
    reads, writes = sites(opened)
    assert reads == [f"blocks.{layer}.hook_resid_mid" for layer in range(L)]
    assert writes == [f"blocks.{layer}.hook_mlp_out" for layer in range(L)]
    (folder / "factors.safetensors").touch()
    with pytest.raises(DataError, match="rank over all layers"):
        open_sae(folder)
    (folder / "factors.safetensors").unlink()
    (folder / "W_enc_1.safetensors").unlink()
    with pytest.raises(DataError, match="lacks layers"):
        open_sae(folder)


PLACES = circuit_tracer.Places(
    [f"blocks.{layer}.mlp.hook_in" for layer in range(L)],
    [f"blocks.{layer}.hook_mlp_out" for layer in range(L)],
    "some/model",
)


def made(spec: Any, d_in: int = D, d_out: int | None = D) -> SAE:
    """With random weights, and thresholds that some latents pass."""
    sae = create(spec, d_in, d_out)
    sae.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for place, parameter in enumerate(sae.parameters()):
            parameter += randn(*parameter.shape, seed=20 + place) * 0.3
        if hasattr(sae, "threshold") and not isinstance(spec, JumpReLUSpec | JumpReLUCLTSpec):
            sae.threshold.fill_(0.4)
    return sae.requires_grad_(False)


@pytest.mark.parametrize(
    "spec",
    [
        ReLUSpec(d_sae=F),
        JumpReLUSpec(d_sae=F, skip=True),
        TopKSpec(d_sae=F, k=K, skip=True),
        BatchTopKSpec(d_sae=F, k=K),
    ],
    ids=lambda spec: spec.architecture,
)
def test_a_set_written_for_circuit_tracer_has_its_formula(spec: Any, tmp_path: Path) -> None:
    saes = [made(spec) for _ in range(L)]
    circuit_tracer.save_set(saes, tmp_path / "out", PLACES)
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert config["feature_input_hook"] == "mlp.hook_in"
    threshold = load_file(tmp_path / "out/layer_2.safetensors").get(circuit_tracer.THRESHOLD)

    def act(pre: Tensor) -> Tensor:
        if config["activation"] == "topk":
            return top(pre)
        return jump(pre, 0.0 if threshold is None else threshold)

    wanted = saes[2](X)
    torch.testing.assert_close(set_formula(tmp_path / "out", 2, X, act), wanted)
    same(open_sae(tmp_path / "out", Wanted(2)).sae, X, wanted)


@pytest.mark.parametrize(
    "spec",
    [
        JumpReLUCLTSpec(d_sae=F * L, places=L),
        JumpReLUCLTSpec(d_sae=F * L, places=L, incremental=True),
        CLTSpec(d_sae=F * L, places=L, k=K),
    ],
    ids=["jumprelu", "incremental", "batchtopk"],
)
def test_a_cross_layer_transcoder_written_for_circuit_tracer(spec: Any, tmp_path: Path) -> None:
    sae = made(spec, L * D, L * D)
    circuit_tracer.save_clt(sae, tmp_path / "out", PLACES)
    wanted = sae(X_LAYERS.flatten(1))
    torch.testing.assert_close(
        clt_formula(tmp_path / "out", X_LAYERS), wanted, rtol=1e-5, atol=1e-5
    )
    same(open_sae(tmp_path / "out").sae, X_LAYERS.flatten(1), wanted)


def test_what_circuit_tracer_cannot_express_is_refused(tmp_path: Path) -> None:
    def refused(message: str, write: Callable[[], None]) -> None:
        with pytest.raises(DataError, match=message):
            write()
        assert not (tmp_path / "out").exists()

    out = tmp_path / "out"
    topk, plain = made(TopKSpec(d_sae=F, k=K)), made(ReLUSpec(d_sae=F))
    refused(
        "transcoders alone",
        lambda: circuit_tracer.save_set([made(ReLUSpec(d_sae=F), d_out=None)], out, PLACES),
    )
    refused("one activation", lambda: circuit_tracer.save_set([topk, plain], out, PLACES))
    refused(
        "as many latents",
        lambda: circuit_tracer.save_set([plain, made(ReLUSpec(d_sae=F + 1))], out, PLACES),
    )
    refused("no cross-layer", lambda: circuit_tracer.save_clt(plain, out, PLACES))
    skip = made(JumpReLUCLTSpec(d_sae=F * L, places=L, skip=True), L * D, L * D)
    refused("no place for", lambda: circuit_tracer.save_clt(skip, out, PLACES))
    with pytest.raises(DataError, match="every layer from 0"):
        circuit_tracer.Places(["blocks.1.mlp.hook_in"], ["blocks.1.hook_mlp_out"], "m")
    with pytest.raises(DataError, match="wants one of"):
        circuit_tracer.Places(["blocks.0.attn.hook_z"], ["blocks.0.hook_mlp_out"], "m")
    pursuit = made(MatchingPursuitSpec(d_sae=F, k=K), d_out=None)
    refused("transcoders alone", lambda: circuit_tracer.save_set([pursuit], out, PLACES))


# ------------------------------------------------------------------ Gemma Scope
def scope_arrays(seed: int = 0, d: int = D) -> dict[str, Tensor]:
    return {
        "W_enc": randn(d, F, seed=seed),
        "b_enc": randn(F, seed=seed + 1),
        "W_dec": randn(F, d, seed=seed + 2),
        "b_dec": randn(d, seed=seed + 3),
        "threshold": randn(F, seed=seed + 4).abs(),
    }


def scope_formula(t: dict[str, Tensor], x: Tensor) -> Tensor:
    return jump(x @ t["W_enc"] + t["b_enc"], t["threshold"]) @ t["W_dec"] + t["b_dec"]


@pytest.mark.parametrize(
    ("where", "reads", "writes"),
    [
        ("transcoders", "3.ln2.hook_normalized", "3.hook_mlp_out"),
        ("res", "3.hook_resid_post", None),
        ("att", "3.attn.hook_z", None),
    ],
)
def test_gemma_scope_1(where: str, reads: str, writes: str | None, tmp_path: Path) -> None:
    folder = tmp_path / f"gemma-scope-2b-pt-{where}" / "layer_3/width_16k/average_l0_71"
    folder.mkdir(parents=True)
    tensors = scope_arrays()
    np.savez(folder / "params.npz", **{name: value.numpy() for name, value in tensors.items()})
    opened = open_sae(folder)
    same(opened.sae, X, scope_formula(tensors, X))
    wanted = f"blocks.{reads}"
    assert sites(opened) == ([wanted], [f"blocks.{writes}" if writes else wanted])
    assert opened.sae.transcodes == (writes is not None) and opened.metadata["l0"] == 71


def test_who_imports_says_what_no_name_does(tmp_path: Path) -> None:
    np.savez(tmp_path / "params.npz", **{n: v.numpy() for n, v in scope_arrays().items()})
    assert not open_sae(tmp_path).sae.transcodes
    assert open_sae(tmp_path, Wanted(transcodes=True)).sae.transcodes


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("configured", [True, False])
def test_gemma_scope_2(affine: bool, configured: bool, tmp_path: Path) -> None:
    folder = tmp_path / "transcoder_all" / "layer_5_width_16k_l0_small"
    folder.mkdir(parents=True)
    t = scope_arrays()
    skip = randn(D, D, seed=9)
    stored = {name.lower(): value for name, value in t.items()}
    save_file(
        stored | ({"affine_skip_connection": skip} if affine else {}), folder / "params.safetensors"
    )
    if configured:
        layer = "model.layers.5"
        config = {
            "architecture": "jump_relu",
            "hf_hook_point_in": f"{layer}.pre_feedforward_layernorm.output",
            "hf_hook_point_out": f"{layer}.post_feedforward_layernorm.output",
        }
        (folder / "config.json").write_text(json.dumps(config))
    opened = open_sae(folder)
    same(opened.sae, X, scope_formula(t, X) + (X @ skip if affine else 0.0))
    assert sites(opened) == (["blocks.5.mlp.hook_in"], ["blocks.5.hook_mlp_out"])


def scope_clt(folder: Path, below: float = 0.0) -> list[dict[str, Tensor]]:
    folder.mkdir(parents=True)
    parts = []
    for layer in range(L):
        t = scope_arrays(seed=10 * layer)
        t["W_dec"] = randn(F, L, D, seed=layer)
        t["W_dec"][:, :layer] = below
        save_file(
            {n.lower(): v for n, v in t.items()}, folder / f"params_layer_{layer}.safetensors"
        )
        parts.append(t)
    return parts


def test_a_cross_layer_transcoder_of_gemma_scope_2(tmp_path: Path) -> None:
    parts = scope_clt(tmp_path / "clt" / "width_16k")
    written = torch.zeros(N, L, D)
    for i, t in enumerate(parts):
        acts = jump(X_LAYERS[:, i] @ t["W_enc"] + t["b_enc"], t["threshold"])
        written += torch.einsum("nf,fld->nld", acts, t["W_dec"])
        written[:, i] += t["b_dec"]
    wanted = written.flatten(1)
    same(open_sae(tmp_path / "clt" / "width_16k").sae, X_LAYERS.flatten(1), wanted)
    scope_clt(tmp_path / "clt" / "wrong", below=0.1)
    with pytest.raises(DataError, match="write layers before"):
        open_sae(tmp_path / "clt" / "wrong")


# ------------------------------------------------------------------ OpenMOSS
def test_llama_scope_of_2024(tmp_path: Path) -> None:
    """As SAELens reads it: the threshold is one of activations as they are."""
    (tmp_path / "checkpoints").mkdir()
    t = {
        "encoder.weight": randn(F, D, seed=1),
        "encoder.bias": randn(F, seed=2),
        "decoder.weight": randn(D, F, seed=3),
        "decoder.bias": randn(D, seed=4),
    }
    save_file(t, tmp_path / "checkpoints/final.safetensors")
    config = {
        "hook_point_in": "blocks.3.hook_resid_post",
        "hook_point_out": "blocks.3.hook_resid_post",
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.2,
        "dataset_average_activation_norm": {"in": 7.0, "out": 7.0},
        "top_k": 50,
    }
    (tmp_path / "hyperparams.json").write_text(json.dumps(config))
    scale = math.sqrt(D) / 7
    acts = jump(X * scale @ t["encoder.weight"].T + t["encoder.bias"], 0.2 * scale)
    wanted = (acts @ t["decoder.weight"].T + t["decoder.bias"]) / scale
    opened = open_sae(tmp_path)
    same(opened.sae, X, wanted)
    assert opened.metadata["l0"] == 50
    (tmp_path / "hyperparams.json").write_text(json.dumps({**config, "act_fn": "topk"}))
    with pytest.raises(DataError, match="act_fn is 'topk'"):
        open_sae(tmp_path)


NORM_IN, NORM_OUT = 5.0, 9.0


def moss_folder(folder: Path, act: str, out: str, **config: Any) -> dict[str, Tensor]:
    folder.mkdir()
    into = "blocks.3.ln2.hook_normalized"
    t = {
        "W_E": randn(D, F, seed=1),
        "b_E": randn(F, seed=2),
        "W_D": randn(F, D, seed=3),
        "b_D": randn(D, seed=4),
        f"dataset_average_activation_norm.{into}": torch.tensor(NORM_IN),
        f"dataset_average_activation_norm.{out}": torch.tensor(
            NORM_IN if out == into else NORM_OUT
        ),
    }
    if act == "jumprelu":
        t["activation_function.log_jumprelu_threshold"] = randn(F, seed=5) * 0.3
    save_file(t, folder / "sae_weights.safetensors")
    named = {"sae_type": "sae", "hook_point_in": into, "hook_point_out": out, "act_fn": act}
    (folder / "config.json").write_text(json.dumps({**named, "top_k": K, **config}))
    return t


@pytest.mark.parametrize("out", ["blocks.3.hook_mlp_out", "blocks.3.ln2.hook_normalized"])
@pytest.mark.parametrize("by_norm", [True, False])
@pytest.mark.parametrize("act", ["relu", "jumprelu", "topk"])
def test_an_sae_of_openmoss(act: str, by_norm: bool, out: str, tmp_path: Path) -> None:
    """Scaled at both ends, and selected by activation times decoder norm."""
    t = moss_folder(tmp_path / "sae", act, out, sparsity_include_decoder_norm=by_norm)
    s_in = math.sqrt(D) / NORM_IN
    s_out = math.sqrt(D) / (NORM_OUT if out.endswith("mlp_out") else NORM_IN)
    norm = t["W_D"].norm(dim=1) if by_norm else torch.ones(F)
    pre = (X * s_in @ t["W_E"] + t["b_E"]) * norm
    if act == "jumprelu":
        acts = jump(pre, t["activation_function.log_jumprelu_threshold"].exp())
    else:
        acts = top(pre) if act == "topk" else relu(pre)
    wanted = (acts / norm @ t["W_D"] + t["b_D"]) / s_out
    same(open_sae(tmp_path / "sae").sae, X, wanted)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"sae_type": "lorsa"}, "sae_type is 'lorsa'"),
        ({"act_fn": "batchtopk"}, "Convert it to JumpReLU"),
        ({"use_glu_encoder": True}, "use_glu_encoder"),
        ({"norm_activation": "token-wise"}, "token-wise"),
        ({"hook_point_in": 3}, "no place"),
        ({"hook_point_out": "blocks.1.hook_mlp_out"}, "lacks"),
    ],
)
def test_what_openmoss_has_and_we_do_not(config: dict[str, Any], says: str, tmp_path: Path) -> None:
    moss_folder(tmp_path / "sae", "relu", "blocks.3.hook_mlp_out", **config)
    with pytest.raises(DataError, match=says):
        open_sae(tmp_path / "sae")


@pytest.mark.parametrize("act", ["relu", "jumprelu"])
def test_a_cross_layer_transcoder_of_openmoss(act: str, tmp_path: Path) -> None:
    """Targets come first in its files, and each layer has scales of its own."""
    reads = [f"blocks.{i}.ln2.hook_normalized" for i in range(L)]
    writes = [f"blocks.{i}.hook_mlp_out" for i in range(L)]
    t = {"W_E": randn(L, D, F, seed=1), "b_E": randn(L, F, seed=2)}
    t |= {f"W_D.{m}": randn(m + 1, F, D, seed=10 + m) for m in range(L)}
    t |= {f"b_D.{m}": randn(D, seed=20 + m) for m in range(L)}
    norms_in, norms_out = [3.0, 5.0, 8.0], [2.0, 4.0, 11.0]
    for names, norms in ((reads, norms_in), (writes, norms_out)):
        for name, norm in zip(names, norms, strict=True):
            t[f"dataset_average_activation_norm.{name}"] = torch.tensor(norm)
    if act == "jumprelu":
        t["activation_function.log_jumprelu_threshold"] = randn(L, F, seed=5) * 0.3
    save_file(t, tmp_path / "sae_weights.safetensors")
    config = {"sae_type": "clt", "hook_points_in": reads, "hook_points_out": writes, "act_fn": act}
    (tmp_path / "config.json").write_text(json.dumps(config))
    written = [t[f"b_D.{m}"].expand(N, D).clone() for m in range(L)]
    for i in range(L):
        rows = torch.stack([t[f"W_D.{m}"][i] for m in range(i, L)], 1)
        norm = rows.pow(2).sum((1, 2)).sqrt()
        pre = X_LAYERS[:, i] * math.sqrt(D) / norms_in[i] @ t["W_E"][i] + t["b_E"][i]
        acts = relu(pre)
        if act == "jumprelu":
            limit = t["activation_function.log_jumprelu_threshold"][i].exp()
            acts = jump(pre * norm, limit) / norm
        for m in range(i, L):
            written[m] += acts @ rows[:, m - i]
    wanted = torch.cat([written[m] * norms_out[m] / math.sqrt(D) for m in range(L)], 1)
    opened = open_sae(tmp_path)
    same(opened.sae, X_LAYERS.flatten(1), wanted)
    assert sites(opened) == (reads, writes)


def test_a_crosscoder_of_openmoss(tmp_path: Path) -> None:
    places = [f"blocks.{i}.hook_resid_post" for i in range(L)]
    t = {
        "W_E": randn(L, D, F, seed=1),
        "b_E": randn(L, F, seed=2),
        "W_D": randn(L, F, D, seed=3),
        "b_D": randn(L, D, seed=4),
    }
    norms = torch.tensor([3.0, 5.0, 8.0])
    for name, norm in zip(places, norms, strict=True):
        t[f"dataset_average_activation_norm.{name}"] = norm
    save_file(t, tmp_path / "sae_weights.safetensors")
    config = {"sae_type": "crosscoder", "hook_points": places, "act_fn": "relu"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    scale = (math.sqrt(D) / norms)[None, :, None]
    acts = relu(torch.einsum("nld,ldf->nf", X_LAYERS * scale, t["W_E"]) + t["b_E"].sum(0))
    wanted = (torch.einsum("nf,lfd->nld", acts, t["W_D"]) + t["b_D"]) / scale
    opened = open_sae(tmp_path)
    same(opened.sae, X_LAYERS.flatten(1), wanted.flatten(1))
    assert sites(opened) == (places, places)
    (tmp_path / "config.json").write_text(json.dumps({**config, "act_fn": "jumprelu"}))
    with pytest.raises(DataError, match="one activation for all places"):
        open_sae(tmp_path)


# ------------------------------------------------------------------ CLT-Forge
@pytest.mark.parametrize("parts", [1, 2])
def test_clt_forge(parts: int, tmp_path: Path) -> None:
    pairs = [(i, m) for i in range(L) for m in range(i, L)]
    t = {
        "W_enc": randn(L, D, F, seed=1),
        "b_enc": randn(L, F, seed=2),
        "W_dec": randn(len(pairs), F, D, seed=3),
        "b_dec": randn(len(pairs), D, seed=4),
        "log_threshold": randn(L, F, seed=5) * 0.3,
        "estimated_norm_scaling_factor_in": torch.tensor([0.5, 2.0, 3.0]),
        "estimated_norm_scaling_factor_out": torch.tensor([1.5, 0.2, 4.0]),
    }
    cut = {"W_enc": 2, "b_enc": 1, "W_dec": 1, "log_threshold": 1}
    for rank in range(parts):
        own = {
            name: value.chunk(parts, cut[name])[rank].contiguous() if name in cut else value
            for name, value in t.items()
        }
        prefix = "" if parts == 1 else f"rank{rank}_"
        save_file(own, tmp_path / f"{prefix}clt_weights.safetensors")
    config = {"model_name": "gpt2", "cross_layer_decoders": True}
    (tmp_path / "clt_cfg.json").write_text(json.dumps(config))
    s_in, s_out = (t[f"estimated_norm_scaling_factor_{end}"] for end in ("in", "out"))
    written = torch.zeros(N, L, D)
    for place, (i, m) in enumerate(pairs):
        pre = X_LAYERS[:, i] * s_in[i] @ t["W_enc"][i] + t["b_enc"][i]
        acts = jump(pre, t["log_threshold"][i].exp())
        written[:, m] += (acts @ t["W_dec"][place] + t["b_dec"][place]) / s_out[m]
    opened = open_sae(tmp_path)
    same(opened.sae, X_LAYERS.flatten(1), written.flatten(1))
    assert sites(opened)[0][2] == "blocks.2.ln2.hook_normalized"
    (tmp_path / "clt_cfg.json").write_text(json.dumps({"cross_layer_decoders": False}))
    with pytest.raises(DataError, match="their own layer alone"):
        open_sae(tmp_path)


# ------------------------------------------------------------------ dictionary_learning
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("scaling", ["none", "global", "by dimension"])
@pytest.mark.parametrize("threshold", [None, 0.7])
def test_a_crosscoder_of_dictionary_learning(
    threshold: float | None, scaling: str, compiled: bool, tmp_path: Path
) -> None:
    mean, std = randn(L, D, seed=7), randn(L, D, seed=8).abs() + 0.3
    t = {
        "encoder.weight": randn(L, D, F, seed=1),
        "encoder.bias": randn(F, seed=2),
        "decoder.weight": randn(L, F, D, seed=3),
        "decoder.bias": randn(L, D, seed=4),
        "code_normalization_id": torch.tensor(1),
        "activation_mean": torch.full((L, D), torch.nan) if scaling == "none" else mean,
        "activation_std": torch.full((L, D), torch.nan) if scaling == "none" else std,
    }
    if scaling == "global":
        t["activation_global_scale"] = torch.tensor(0.35)
    if threshold is not None:
        t |= {"threshold": torch.tensor(threshold), "k": torch.tensor(K)}
    prefix = "_orig_mod." if compiled else ""
    save_file({prefix + name: value for name, value in t.items()}, tmp_path / "ae.safetensors")
    x = X_LAYERS
    if scaling != "none":
        x = (x - mean) * (0.35 if scaling == "global" else 1 / (std + 1e-8))
    acts = relu(torch.einsum("nld,ldf->nf", x, t["encoder.weight"]) + t["encoder.bias"])
    if threshold is not None:
        acts = acts * (acts * t["decoder.weight"].norm(dim=2).sum(0) > threshold)
    y = torch.einsum("nf,lfd->nld", acts, t["decoder.weight"]) + t["decoder.bias"]
    if scaling != "none":
        y = y / (0.35 if scaling == "global" else 1 / (std + 1e-8)) + mean
    sae = open_sae(tmp_path).sae
    torch.testing.assert_close(sae(x := X_LAYERS.flatten(1)), y.flatten(1), rtol=1e-4, atol=1e-4)
    assert not sae.transcodes and sae.d_in == x.shape[1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"threshold": torch.tensor([0.1, 0.2, 0.3])}, "place by place"),
        ({"threshold": torch.tensor(-1.0)}, "never set"),
        ({"code_normalization_id": torch.tensor(2), "threshold": torch.tensor(0.1)}, "measured"),
        ({"decoder.bias": randn(D, seed=1)}, "fit each other"),
        ({"encoder.bias": randn(F, seed=1).fill_(torch.nan)}, "no numbers"),
    ],
)
def test_a_crosscoder_that_cannot_be_read_says_why(
    change: dict[str, Tensor], says: str, tmp_path: Path
) -> None:
    t = {
        "encoder.weight": randn(L, D, F, seed=1),
        "encoder.bias": randn(F, seed=2),
        "decoder.weight": randn(L, F, D, seed=3),
        "decoder.bias": randn(L, D, seed=4),
    }
    save_file({**t, **change}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=says):
        open_sae(tmp_path)


# ------------------------------------------------------------------ Qwen-Scope
def test_qwen_scope_is_converted_by_its_owner(tmp_path: Path) -> None:
    """The line that is named does what it says."""
    folder = tmp_path / f"SAE-Res-Qwen3-1.7B-Base-W32K-L0_{K}"
    folder.mkdir()
    t = {
        "W_enc": randn(F, D, seed=1),
        "W_dec": randn(D, F, seed=2),
        "b_enc": randn(F, seed=3),
        "b_dec": randn(D, seed=4),
    }
    for layer in range(2):
        torch.save(t, folder / f"layer{layer}.sae.pt")
    with pytest.raises(DataError, match="pickled weights, which can run code") as caught:
        open_sae(folder, Wanted(1))
    assert caught.value.advice is not None
    line = caught.value.advice.split('python -c "', 1)[1].rstrip('"')

    subprocess.run([sys.executable, "-c", line], cwd=folder, check=True, env=os.environ)
    assert layers_in(folder) == [0, 1]
    opened = open_sae(folder, Wanted(1))
    wanted = top(X @ t["W_enc"].T + t["b_enc"]) @ t["W_dec"].T + t["b_dec"]
    same(opened.sae, X, wanted)
    assert sites(opened)[0] == ["blocks.1.hook_resid_post"]
    assert opened.metadata["model_name"] == "Qwen/Qwen3-1.7B-Base"
