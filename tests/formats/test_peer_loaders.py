"""What other libraries' own loaders make of the same folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from monosemy.formats.circuit_tracer import save_clt, save_set
from monosemy.formats.header import check_safetensors
from monosemy.formats.load import open_sae
from monosemy.formats.opened import Wanted
from monosemy.saes.base import SAE
from monosemy.specs import BatchTopKSpec, JumpReLUCLTSpec, JumpReLUSpec, ReLUSpec
from tests.formats.test_transcoder_folders import PLACES, D, F, L, X, made, scope_arrays
from tests.support.peer_packages import CIRCUIT_TRACER, run_beside

sae_lens = pytest.importorskip("sae_lens")
loaders = pytest.importorskip("sae_lens.loading.pretrained_sae_loaders")


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in place of the hub."""

    def download(repo_id: str, filename: str, subfolder: str | None = None, **_: Any) -> str:
        return str(tmp_path / (subfolder or "") / filename)

    def shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
        return check_safetensors(tmp_path / filename)

    monkeypatch.setattr(loaders, "hf_hub_download", download)
    monkeypatch.setattr(loaders, "get_safetensors_tensor_shapes", shapes)
    return tmp_path


def theirs(config: dict[str, Any], state: dict[str, Tensor]) -> Any:
    """SAELens' own SAE of what its loader gives, as ``from_pretrained`` makes it."""
    config = loaders.handle_config_defaulting(config)
    kind = sae_lens.SAE.get_sae_config_class_for_architecture(config["architecture"])
    options = kind.from_dict(config)
    peer = sae_lens.SAE.get_sae_class_for_architecture(options.architecture())(options)
    peer.process_state_dict_for_loading(state)
    peer.load_state_dict(state)
    return peer


def agree(sae: SAE, config: dict[str, Any], state: dict[str, Tensor]) -> None:
    peer = theirs(config, state)
    with torch.no_grad():
        wanted = peer(X)
    torch.testing.assert_close(sae(X), wanted, rtol=1e-5, atol=1e-5)


def test_gemma_scope_1_transcoders(local: Path) -> None:
    where = "layer_3/width_16k/average_l0_71"
    (local / where).mkdir(parents=True)
    arrays = {name: value.numpy() for name, value in scope_arrays().items()}
    np.savez(local / where / "params.npz", **arrays)
    config, state, _ = loaders.gemma_2_transcoder_huggingface_loader("x/2b-transcoders", where)
    ours = open_sae(local / where, Wanted(transcodes=True))
    agree(ours.sae, {**config, "d_in": D, "d_out": D, "d_sae": F}, state)
    assert config["hook_name"] == "blocks.3.ln2.hook_normalized"


@pytest.mark.parametrize("affine", [True, False])
def test_gemma_scope_2_transcoders(affine: bool, local: Path) -> None:
    where = "transcoder_all/layer_3_width_16k_l0_small" + ("_affine" if affine else "")
    (local / where).mkdir(parents=True)
    stored = {name.lower(): value for name, value in scope_arrays().items()}
    if affine:
        stored["affine_skip_connection"] = torch.randn(D, D)
    save_file(stored, local / where / "params.safetensors")
    layer = "model.layers.3"
    named = {
        "architecture": "jump_relu",
        "model_name": "gemma-v3-1b-pt",
        "affine_connection": affine,
        "hf_hook_point_in": f"{layer}.pre_feedforward_layernorm.output",
        "hf_hook_point_out": f"{layer}.post_feedforward_layernorm.output",
    }
    (local / where / "config.json").write_text(json.dumps(named))
    config, state, _ = loaders.gemma_3_sae_huggingface_loader("google/gemma-scope-2-1b-pt", where)
    agree(open_sae(local / where).sae, config, state)


def test_qwen_scope(local: Path) -> None:
    folder = local / "SAE-Res-Qwen3-1.7B-Base-W32K-L0_3"
    folder.mkdir()
    sizes = {"W_enc": (F, D), "W_dec": (D, F), "b_enc": (F,), "b_dec": (D,)}
    t = {name: torch.randn(size) for name, size in sizes.items()}
    save_file(t, folder / "layer1.sae.safetensors")
    torch.save(t, local / "layer1.sae.pt")
    load = loaders.qwen_scope_sae_huggingface_loader
    config, state, _ = load(f"Qwen/{folder.name}", "layer1.sae.pt")
    agree(open_sae(folder, Wanted(1)).sae, {**config, "d_in": D, "d_sae": F}, state)


def test_llama_scope(local: Path) -> None:
    where = "Llama3_1-8B-Base-L3R-8x"
    (local / where / "checkpoints").mkdir(parents=True)
    sizes = {"encoder.weight": (F, D), "decoder.weight": (D, F), "encoder.bias": (F,)}
    t = {name: torch.randn(size) for name, size in {**sizes, "decoder.bias": (D,)}.items()}
    save_file(t, local / where / "checkpoints/final.safetensors")
    site = "blocks.3.hook_resid_post"
    named = {
        "hook_point_in": site,
        "hook_point_out": site,
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.3,
        "dataset_average_activation_norm": {"in": 4.0, "out": 4.0},
        "d_model": D,
        "d_sae": F,
        "top_k": 50,
    }
    (local / where / "hyperparams.json").write_text(json.dumps(named))
    load, precise = loaders.llama_scope_sae_huggingface_loader, {"dtype": "float32"}
    config, state, _ = load("x/y", where, cfg_overrides=precise)
    peer = theirs({**config, "normalize_activations": "none"}, state)
    peer.fold_activation_norm_scaling_factor(D**0.5 / 4.0)
    with torch.no_grad():
        torch.testing.assert_close(open_sae(local / where).sae(X), peer(X), rtol=1e-5, atol=1e-5)


def test_a_set_written_for_circuit_tracer(local: Path) -> None:
    """As SAELens reads those of its authors: ReLU, and no skip."""
    saes = [made(ReLUSpec(d_sae=F)) for _ in range(L)]
    save_set(saes, local / "set", PLACES)
    for path in (local / "set").iterdir():
        path.rename(local / path.name)
    sizes = {"d_model": {"value": D}, "d_feature": {"value": F}, "batch_size": {"value": 64}}
    (local / "wandb-config.yaml").write_text(json.dumps(sizes))
    config, state, _ = loaders.mwhanna_transcoder_huggingface_loader("x/y", "layer_2.safetensors")
    agree(saes[2], config, state)
    assert config["hook_name"] == "blocks.2.mlp.hook_in" and config["model_name"] == "some/model"


SCRIPT = """
import json, sys
import torch
from circuit_tracer.transcoder.cross_layer_transcoder import load_clt
from circuit_tracer.transcoder.single_layer_transcoder import load_transcoder_set
root, layers = sys.argv[1], int(sys.argv[2])
x = torch.load(f"{root}/x.pt", weights_only=True)
result = {}
for name in ("relu", "jumprelu", "batchtopk"):
    paths = {layer: f"{root}/{name}/layer_{layer}.safetensors" for layer in range(layers)}
    coders = load_transcoder_set(
        paths, "x", "mlp.hook_in", "hook_mlp_out", device=torch.device("cpu"), dtype=torch.float32
    )
    result[name] = [coders[layer](x[:, layer]).tolist() for layer in range(layers)]
clt = load_clt(f"{root}/clt", dtype=torch.float32, device=torch.device("cpu"), lazy_decoder=False)
acts = clt.encode(x.transpose(0, 1))
result["clt"] = acts.tolist()
print(json.dumps(result))
"""


@pytest.mark.campaign
def test_circuit_tracer_reads_what_is_written_for_it(tmp_path: Path) -> None:
    """Its own loaders, in an environment of its own, give the same numbers."""
    x = torch.randn(20, L, D, generator=torch.Generator().manual_seed(3))
    torch.save(x, tmp_path / "x.pt")
    kinds = {
        "relu": ReLUSpec(d_sae=F),
        "jumprelu": JumpReLUSpec(d_sae=F, skip=True),
        "batchtopk": BatchTopKSpec(d_sae=F, k=3),
    }
    sets = {name: [made(spec) for _ in range(L)] for name, spec in kinds.items()}
    for name, saes in sets.items():
        save_set(saes, tmp_path / name, PLACES)
    clt = made(JumpReLUCLTSpec(d_sae=L * F, places=L), L * D, L * D)
    save_clt(clt, tmp_path / "clt", PLACES)
    printed = run_beside(CIRCUIT_TRACER, "-c", SCRIPT, str(tmp_path), str(L))
    read = json.loads(printed.splitlines()[-1])
    for name, saes in sets.items():
        for layer, sae in enumerate(saes):
            given = torch.tensor(read[name][layer])
            torch.testing.assert_close(given, sae(x[:, layer]), rtol=1e-5, atol=1e-5)
    codes = clt.encode(x.flatten(1)).dense(L * F).unflatten(1, (L, F)).transpose(0, 1)
    torch.testing.assert_close(torch.tensor(read["clt"]), codes, rtol=1e-5, atol=1e-5)
