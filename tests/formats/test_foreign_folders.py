"""sparsify and dictionary_learning folders, and releases: read by their formulas."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sae_lens
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from monosemy.errors import DataError
from monosemy.formats.load import open_sae
from monosemy.formats.sparsify import load_sparsify, save_sparsify
from monosemy.saes.registry import create
from monosemy.specs import BatchTopKSpec, TopKSpec, TranscoderSpec

D, F, K, N = 6, 24, 4, 50


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def activations() -> Tensor:
    return randn(N, D, seed=9) * 2


def top(pre: Tensor) -> Tensor:
    kept = pre.topk(K, dim=1).indices
    return torch.zeros_like(pre).scatter(1, kept, pre.gather(1, kept))


def sparsify_folder(
    folder: Path, skip: bool = False, transcode: bool = False, **config: Any
) -> Path:
    folder.mkdir()
    tensors = {
        "encoder.weight": randn(F, D, seed=1),
        "encoder.bias": randn(F, seed=2),
        "W_dec": randn(F, D, seed=3),
        "b_dec": randn(D, seed=4),
    }
    if skip:
        tensors["W_skip"] = randn(D, D, seed=5)
    save_file(tensors, folder / "sae.safetensors")
    written = {
        "activation": "topk",
        "expansion_factor": 4,
        "normalize_decoder": True,
        "num_latents": 0,
        "k": K,
        "multi_topk": False,
        "skip_connection": skip,
        "transcode": transcode,
        "d_in": D,
    }
    (folder / "cfg.json").write_text(json.dumps({**written, **config}))
    return folder


def sparsify_formula(folder: Path, x: Tensor) -> Tensor:
    """As its coder computes: centre unless it transcodes, linear, ReLU, top k, sum of rows."""
    t, config = load_file(folder / "sae.safetensors"), json.loads((folder / "cfg.json").read_text())
    centred = x if config["transcode"] else x - t["b_dec"]
    codes = top((centred @ t["encoder.weight"].T + t["encoder.bias"]).relu())
    y = codes @ t["W_dec"] + t["b_dec"]
    return y + x @ t["W_skip"].T if config["skip_connection"] else y


@pytest.mark.parametrize(
    ("skip", "transcode"), [(False, False), (False, True), (True, True), (True, False)]
)
@pytest.mark.parametrize("normalised", [True, False])
def test_sparsify_is_read_by_its_formula(
    skip: bool, transcode: bool, normalised: bool, tmp_path: Path
) -> None:
    """num_latents of 0, W_dec as it lies, and centring whatever normalize_decoder says."""
    folder = sparsify_folder(tmp_path / "layers.3", skip, transcode, normalize_decoder=normalised)
    sae, metadata, kind, _ = open_sae(folder)
    assert kind == "sparsify" and metadata["hookpoint"] == "layers.3"
    assert (sae.d_sae, sae.d_in) == (F, D)
    torch.testing.assert_close(sae(activations()), sparsify_formula(folder, activations()))


@pytest.mark.parametrize("kind", ["topk", "transcoder", "skip"])
def test_what_is_written_for_sparsify_has_its_formula(kind: str, tmp_path: Path) -> None:
    site = "blocks.1.hook_mlp_out"
    spec: Any = (
        TopKSpec(d_sae=F, k=K)
        if kind == "topk"
        else TranscoderSpec(d_sae=F, k=K, target_site=site, skip=kind == "skip")
    )
    sae = create(spec, D)
    sae.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for i, parameter in enumerate(sae.parameters()):
            parameter += randn(*parameter.shape, seed=20 + i) * 0.1
    save_sparsify(sae, tmp_path / "out")
    wanted = sae(activations())
    torch.testing.assert_close(sparsify_formula(tmp_path / "out", activations()), wanted)
    back = load_sparsify(tmp_path / "out", site)
    assert back.spec == spec
    torch.testing.assert_close(back(activations()), wanted)


def test_sparsify_cannot_express_a_batchtopk(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no form of a 'batchtopk'"):
        save_sparsify(create(BatchTopKSpec(d_sae=F, k=K), D), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"activation": "groupmax"}, "groupmax"),
        ({"num_latents": 25}, "does not fit"),
        ({"k": 99}, "larger than d_sae"),
        ({"k": "many"}, "not a usable configuration"),
        ({"expansion_factor": None}, "not a usable configuration"),
        ({"skip_connection": True}, "W_skip"),
    ],
)
def test_a_wrong_sparsify_folder_is_refused(
    config: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=says):
        open_sae(sparsify_folder(tmp_path / "x", **config))


def linear(bias: str) -> dict[str, Tensor]:
    return {
        "encoder.weight": randn(F, D, seed=1),
        "encoder.bias": randn(F, seed=2),
        "decoder.weight": randn(D, F, seed=3),
        bias: randn(D, seed=4),
    }


def direct() -> dict[str, Tensor]:
    return {
        "W_enc": randn(D, F, seed=1),
        "b_enc": randn(F, seed=2),
        "W_dec": randn(F, D, seed=3),
        "b_dec": randn(D, seed=4),
    }


def of_topk(t: dict[str, Tensor], x: Tensor) -> Tensor:
    pre = ((x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]).relu()
    return top(pre) @ t["decoder.weight"].T + t["b_dec"]


def of_batchtopk(t: dict[str, Tensor], x: Tensor) -> Tensor:
    pre = ((x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]).relu()
    return (pre * (pre > t["threshold"])) @ t["decoder.weight"].T + t["b_dec"]


def of_matryoshka(t: dict[str, Tensor], x: Tensor) -> Tensor:
    pre = ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    return (pre * (pre > t["threshold"])) @ t["W_dec"] + t["b_dec"]


def of_standard(t: dict[str, Tensor], x: Tensor) -> Tensor:
    pre = (x - t["bias"]) @ t["encoder.weight"].T + t["encoder.bias"]
    return pre.relu() @ t["decoder.weight"].T + t["bias"]


def of_standard_new(t: dict[str, Tensor], x: Tensor) -> Tensor:
    pre = x @ t["encoder.weight"].T + t["encoder.bias"]
    return pre.relu() @ t["decoder.weight"].T + t["decoder.bias"]


def of_gated(t: dict[str, Tensor], x: Tensor) -> Tensor:
    product = (x - t["decoder_bias"]) @ t["encoder.weight"].T
    magnitude = (product * t["r_mag"].exp() + t["mag_bias"]).relu()
    codes = magnitude * (product + t["gate_bias"] > 0)
    return codes @ t["decoder.weight"].T + t["decoder_bias"]


def of_jumprelu(t: dict[str, Tensor], x: Tensor) -> Tensor:
    pre = x @ t["W_enc"] + t["b_enc"]
    return (pre * (pre > t["threshold"])).relu() @ t["W_dec"] + t["b_dec"]


Formula = Callable[[dict[str, Tensor], Tensor], Tensor]
GATED = {
    "encoder.weight": randn(F, D, seed=1),
    "decoder.weight": randn(D, F, seed=3),
    "decoder_bias": randn(D, seed=4),
    "r_mag": randn(F, seed=5) * 0.2,
    "gate_bias": randn(F, seed=6),
    "mag_bias": randn(F, seed=7),
}
GROUPS = {"group_sizes": torch.tensor([4, 8, 12]), "k": torch.tensor(K)}
DICTIONARIES: dict[str, tuple[dict[str, Tensor], Formula, str]] = {
    "AutoEncoderTopK": ({**linear("b_dec"), "k": torch.tensor(K)}, of_topk, "topk"),
    "BatchTopKSAE": (
        {**linear("b_dec"), "k": torch.tensor(K), "threshold": torch.tensor(0.8)},
        of_batchtopk,
        "batchtopk",
    ),
    "MatryoshkaBatchTopKSAE": (
        {**direct(), **GROUPS, "threshold": torch.tensor(0.8)},
        of_matryoshka,
        "matryoshka",
    ),
    "AutoEncoder": (linear("bias"), of_standard, "relu"),
    "AutoEncoderNew": (linear("decoder.bias"), of_standard_new, "relu"),
    "GatedAutoEncoder": (GATED, of_gated, "gated"),
    "JumpReluAutoEncoder": (
        {**direct(), "threshold": randn(F, seed=8).abs()},
        of_jumprelu,
        "jumprelu",
    ),
}


def dictionary_folder(folder: Path, kind: str, tensors: dict[str, Tensor]) -> Path:
    folder.mkdir()
    save_file(
        {name: value.contiguous() for name, value in tensors.items()}, folder / "ae.safetensors"
    )
    trainer = {"dict_class": kind, "lm_name": "tiny", "submodule_name": "resid_post_layer_3"}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
    return folder


@pytest.mark.parametrize("kind", sorted(DICTIONARIES))
def test_dictionaries_are_read_by_their_formula(kind: str, tmp_path: Path) -> None:
    tensors, formula, architecture = DICTIONARIES[kind]
    sae, metadata, format_, _ = open_sae(dictionary_folder(tmp_path / "trainer_0", kind, tensors))
    assert format_ == "dictionary_learning" and sae.spec.architecture == architecture
    assert metadata == {
        "model_name": "tiny",
        "submodule": "resid_post_layer_3",
        "hook_name": "blocks.3.hook_resid_post",
    }
    wanted = formula(tensors, activations())
    torch.testing.assert_close(sae(activations()), wanted, rtol=1e-5, atol=1e-5)


def test_matryoshka_groups_become_prefixes(tmp_path: Path) -> None:
    kind = "MatryoshkaBatchTopKSAE"
    sae = open_sae(dictionary_folder(tmp_path / "x", kind, DICTIONARIES[kind][0])).sae
    assert sae.spec.prefixes == [4, 12]  # type: ignore[attr-defined]


def test_a_pickle_is_never_read_and_the_way_out_is_told(tmp_path: Path) -> None:
    folder = dictionary_folder(tmp_path / "x", "AutoEncoder", linear("bias"))
    (folder / "ae.safetensors").rename(folder / "ae.pt")
    with pytest.raises(DataError) as caught:
        open_sae(folder)
    assert caught.value.advice is not None
    assert "never read" in caught.value.advice and "Convert ae.pt" in caught.value.advice


def test_other_dictionaries_are_named(tmp_path: Path) -> None:
    folder = dictionary_folder(tmp_path / "x", "CrossCoder", linear("bias"))
    with pytest.raises(DataError, match="'CrossCoder'; known here: AutoEncoderTopK"):
        open_sae(folder)
    with pytest.raises(DataError, match="lacks 'bias'"):
        open_sae(dictionary_folder(tmp_path / "y", "AutoEncoder", linear("b_dec")))


RELEASE = "gpt2-small-res-jb/blocks.3.hook_resid_pre"
"""One that SAELens lists."""


@pytest.mark.parametrize("reference", [RELEASE, "somebody/saes/layer_3"])
def test_a_release_without_a_network_is_a_clear_error(
    reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_args: Any, **_options: Any) -> None:
        raise OSError("no route to the hub")

    monkeypatch.setattr(sae_lens.SAE, "from_pretrained", away)
    with pytest.raises(DataError, match=r"could not load .*: OSError: no route"):
        open_sae(reference)


def test_sae_lens_itself_says_what_is_missing() -> None:
    """The tests run without a hub: its own error comes through, not a traceback."""
    with pytest.raises(DataError, match="SAELens could not load"):
        open_sae(RELEASE)
    with pytest.raises(DataError, match=r"ID blocks\.99 not found"):
        open_sae("gpt2-small-res-jb/blocks.99")
    with pytest.raises(DataError, match=r"is no folder\."):
        open_sae("nothing-here")
    with pytest.raises(DataError, match="'nothing' no release of SAELens"):
        open_sae("nothing/here")


def theirs_of(architecture: str, **options: Any) -> Any:
    kind, config = sae_lens.saes.sae.get_sae_class(architecture)
    theirs = kind(config(d_in=D, d_sae=F, **options))
    with torch.no_grad():
        for i, (name, parameter) in enumerate(theirs.named_parameters()):
            value = randn(*parameter.shape, seed=30 + i)
            parameter.copy_(value.abs() if name == "threshold" else value)
    theirs.cfg.metadata.model_name = "tiny"
    theirs.cfg.metadata.hook_name = "blocks.3.hook_resid_post"
    return theirs


@pytest.mark.parametrize("reference", [RELEASE, "somebody/saes/layer_3"])
@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("topk", {"k": K}),
        ("topk", {"k": K, "rescale_acts_by_decoder_norm": True}),
        ("topk", {"k": K, "apply_b_dec_to_input": False}),
        ("standard", {"apply_b_dec_to_input": False}),
        ("gated", {"apply_b_dec_to_input": False}),
        ("jumprelu", {"apply_b_dec_to_input": False}),
        ("transcoder", {"apply_b_dec_to_input": False, "d_out": 9}),
        ("skip_transcoder", {"apply_b_dec_to_input": False, "d_out": 9}),
        ("jumprelu_transcoder", {"apply_b_dec_to_input": False, "d_out": 9}),
        ("jumprelu_skip_transcoder", {"apply_b_dec_to_input": False, "d_out": 9}),
    ],
)
def test_a_release_is_opened_through_saelens(
    reference: str, architecture: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it centres or scales otherwise than we do, as many public SAEs do."""
    theirs, asked = theirs_of(architecture, **options), []
    monkeypatch.setattr(
        sae_lens.SAE, "from_pretrained", lambda *names, **_o: asked.append(names) or theirs
    )
    sae, metadata, kind, _ = open_sae(reference)
    assert "/".join(asked[0]) == reference and kind == "saelens"
    assert metadata["hook_name"] == "blocks.3.hook_resid_post" and metadata["model_name"] == "tiny"
    x = activations()
    with torch.no_grad():
        codes = sae.encode(x)
        torch.testing.assert_close(codes.dense(F), theirs.encode(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(sae(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_a_release_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    temporal = theirs_of("standard")
    temporal.cfg.architecture = lambda: "temporal"  # type: ignore[method-assign]
    monkeypatch.setattr(sae_lens.SAE, "from_pretrained", lambda *_n, **_o: temporal)
    with pytest.raises(DataError, match="'temporal' SAE; known here: topk"):
        open_sae(RELEASE)
    layered = theirs_of("standard", normalize_activations="layer_norm")
    monkeypatch.setattr(sae_lens.SAE, "from_pretrained", lambda *_n, **_o: layered)
    with pytest.raises(DataError, match="normalize_activations = 'layer_norm'"):
        open_sae(RELEASE)


def test_sparsify_releases_are_read_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SAELens transposes their decoder; only its list of names is used."""
    (tmp_path / "run").mkdir()
    folder = sparsify_folder(tmp_path / "run" / "layers.3")
    (tmp_path / "run" / "config.json").write_text(json.dumps({"model": "tiny/model"}))
    directory = "sae_lens.loading.pretrained_saes_directory"
    release = dataclasses.replace(
        sae_lens.loading.pretrained_saes_directory.get_pretrained_saes_directory()[
            RELEASE.split("/")[0]
        ],
        conversion_func="sparsify",
        repo_id="somebody/run",
        saes_map={"layers.3": "layers.3"},
    )
    monkeypatch.setattr(f"{directory}.get_pretrained_saes_directory", lambda: {"a-run": release})
    monkeypatch.setattr(
        "sae_lens.loading.pretrained_sae_loaders.get_pretrained_saes_directory",
        lambda: {"a-run": release},
    )
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download", lambda _r, name: str(tmp_path / "run" / name)
    )
    sae, metadata, kind, _ = open_sae("a-run/layers.3")
    assert kind == "sparsify" and metadata["model_name"] == "tiny/model"
    assert metadata["hook_name"] == "blocks.3.hook_resid_post"
    torch.testing.assert_close(sae(activations()), sparsify_formula(folder, activations()))


def test_a_folder_of_folders_says_which(tmp_path: Path) -> None:
    sparsify_folder(tmp_path / "layers.3")
    sparsify_folder(tmp_path / "layers.10")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"holds no SAE.*layers\.10, layers\.3"):
        open_sae(tmp_path)
