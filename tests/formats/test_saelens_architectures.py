"""Every architecture through a folder: ours comes back to the bit, SAELens computes the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sae_lens
import torch
from safetensors.torch import load_file, save_file

from monosemy.errors import DataError
from monosemy.formats.saelens import load_sae, read_density, save_sae
from monosemy.saes.base import SAE
from monosemy.saes.jumprelu import JumpReLUSAE
from monosemy.saes.registry import create
from monosemy.specs import ARCHITECTURES

D, F, N, OUT = 16, 48, 80, 9
METADATA = {"model_name": "tiny", "hook_name": "blocks.1.hook_resid_post"}
NO_PEER = {"transcoder", "clt", "clt_jumprelu", "crosscoder", "crosscoder_l1"}
"""What SAELens has no class for."""
TRANSCODERS = {
    ("relu", False): "transcoder",
    ("relu", True): "skip_transcoder",
    ("jumprelu", False): "jumprelu_transcoder",
    ("jumprelu", True): "jumprelu_skip_transcoder",
    ("batchtopk", False): "jumprelu_transcoder",
    ("batchtopk", True): "jumprelu_skip_transcoder",
    ("matryoshka", False): "jumprelu_transcoder",
    ("matryoshka", True): "jumprelu_skip_transcoder",
}
"""What SAELens calls them."""


def some_sae(name: str, d_out: int | None = None, **more: Any) -> SAE:
    options: dict[str, Any] = {"d_sae": F, **more}
    if "k" in ARCHITECTURES[name].model_fields:
        options.setdefault("k", 5)
    if "places" in ARCHITECTURES[name].model_fields:
        options["places"] = 2
    if name == "transcoder":
        options["target_site"] = "blocks.1.hook_mlp_out"
        d_out = OUT
    sae = create(ARCHITECTURES[name](**options), D, d_out)
    generator = torch.Generator().manual_seed(0)
    sae.initialise(generator)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * 0.1
        sae.normalise_decoder()
        sae.calibrate(activations())
    return sae.requires_grad_(False)


def activations() -> torch.Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(5)) * 2


def write(sae: SAE, folder: Path) -> Path:
    save_sae(sae, folder, METADATA, {"sae": sae.spec.model_dump(mode="json")})
    return folder


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_ours_comes_back_to_the_bit(name: str, tmp_path: Path) -> None:
    sae = some_sae(name)
    back = load_sae(write(sae, tmp_path / "sae"))
    assert type(back) is type(sae) and back.spec == sae.spec
    for key, value in sae.state_dict().items():
        assert torch.equal(back.state_dict()[key], value), key
        assert back.state_dict()[key].dtype == value.dtype
    assert torch.equal(back(activations()), sae(activations()))


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - NO_PEER))
def test_saelens_computes_the_same(name: str, tmp_path: Path) -> None:
    ours = some_sae(name)
    theirs = sae_lens.SAE.load_from_disk(str(write(ours, tmp_path / "sae")))
    x = activations()
    codes = ours.encode(x)
    with torch.no_grad():
        dense = theirs.encode(x)
        torch.testing.assert_close(
            dense.to_dense() if dense.is_sparse else dense, codes.dense(F), rtol=1e-5, atol=1e-5
        )
        torch.testing.assert_close(theirs(x), ours(x), rtol=1e-5, atol=1e-5)
    assert 0 < codes.l0().float().mean() < F


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - NO_PEER))
def test_a_folder_without_our_files_is_read_as_saelens_means_it(name: str, tmp_path: Path) -> None:
    ours = some_sae(name)
    folder = write(ours, tmp_path / "sae")
    (folder / "provenance.json").unlink()
    (folder / "state.safetensors").unlink(missing_ok=True)
    read = load_sae(folder)
    torch.testing.assert_close(read(activations()), ours(activations()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "skip"), TRANSCODERS)
def test_saelens_computes_transcoders_the_same(name: str, skip: bool, tmp_path: Path) -> None:
    ours = some_sae(name, OUT, **({"skip": True} if skip else {}))
    metadata = METADATA | {"hook_name_out": "blocks.1.hook_mlp_out"}
    folder = tmp_path / "sae"
    save_sae(ours, folder, metadata, {"sae": ours.spec.model_dump(mode="json")})
    config = json.loads((folder / "cfg.json").read_text())
    assert config["architecture"] == TRANSCODERS[name, skip]
    assert config["d_out"] == OUT and config["metadata"]["hook_name_out"]
    theirs, x = sae_lens.SAE.load_from_disk(str(folder)), activations()
    with torch.no_grad():
        torch.testing.assert_close(theirs.encode(x), ours.encode(x).dense(F), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(theirs(x), ours(x), rtol=1e-5, atol=1e-5)
    back = load_sae(folder)
    assert type(back) is type(ours) and back.spec == ours.spec
    assert torch.equal(back(x), ours(x))
    (folder / "provenance.json").unlink()
    (folder / "state.safetensors").unlink(missing_ok=True)
    read = load_sae(folder)
    assert read.transcodes and (read.skip_matrix() is not None) == skip
    torch.testing.assert_close(read(x), ours(x), rtol=1e-5, atol=1e-5)
    weights = load_file(folder / "sae_weights.safetensors")
    if skip:
        assert weights["W_skip"].shape == (OUT, D)
        save_file(
            {**weights, "W_skip": weights["W_skip"].T.contiguous()},
            folder / "sae_weights.safetensors",
        )
        with pytest.raises(DataError, match="does not fit"):
            load_sae(folder)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("name", ["relu", "jumprelu"])
def test_saelens_own_transcoders_are_read(name: str, skip: bool, tmp_path: Path) -> None:
    """Written by SAELens itself, with random weights."""
    kind = sae_lens.saes.sae.get_sae_class(TRANSCODERS[name, skip])
    theirs = kind[0](kind[1](d_in=D, d_sae=F, d_out=OUT, apply_b_dec_to_input=False))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
        if name == "jumprelu":
            theirs.threshold.abs_()
    theirs.save_model(tmp_path / "sae")
    ours, x = load_sae(tmp_path / "sae"), activations()
    assert ours.spec.architecture == name
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "more"), [("topk", {}), ("gated", {}), ("topk", {"skip": True})])
def test_transcoders_that_saelens_lacks_are_ours_alone(
    name: str, more: dict[str, Any], tmp_path: Path
) -> None:
    sae = some_sae(name, OUT, **more)
    with pytest.raises(DataError, match="its transcoders are ReLU or JumpReLU"):
        sae.saelens_export()
    folder = write(sae, tmp_path / "sae")
    assert json.loads((folder / "cfg.json").read_text())["architecture"] == f"monosemy.{name}"
    assert torch.equal(load_sae(folder)(activations()), sae(activations()))


def test_a_transcoder_that_was_stored_before_saelens_form_is_read(tmp_path: Path) -> None:
    """As folders were written when every transcoder had our own form."""
    sae = some_sae("jumprelu", OUT)
    folder = write(sae, tmp_path / "sae")
    config = json.loads((folder / "cfg.json").read_text())
    for key in ("apply_b_dec_to_input", "normalize_activations"):
        del config[key]
    config |= {"architecture": "monosemy.jumprelu", "transcodes": True}
    (folder / "cfg.json").write_text(json.dumps(config))
    save_file(
        {key: value.contiguous() for key, value in sae.state_dict().items()},
        folder / "sae_weights.safetensors",
    )
    assert torch.equal(load_sae(folder)(activations()), sae(activations()))


@pytest.mark.parametrize("name", ["batchtopk", "matryoshka"])
def test_weights_changed_by_others_win_over_our_state(name: str, tmp_path: Path) -> None:
    folder = write(some_sae(name), tmp_path / "sae")
    weights = load_file(folder / "sae_weights.safetensors")
    weights["b_dec"] += 1
    save_file(weights, folder / "sae_weights.safetensors")
    read = load_sae(folder)
    assert read.spec.architecture == name and torch.equal(read.b_dec, weights["b_dec"])
    weights["threshold"][3] *= 2  # what one threshold for all cannot express
    save_file(weights, folder / "sae_weights.safetensors")
    read = load_sae(folder)
    assert isinstance(read, JumpReLUSAE) and torch.equal(read.b_dec, weights["b_dec"])
    torch.testing.assert_close(read.threshold, weights["threshold"])


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("topk", {"ista_steps": 2}),
        ("batchtopk", {"ista_steps": 1}),
        ("transcoder", {"skip": True}),
        ("clt", {}),
        ("clt", {"incremental": True}),
        ("clt_jumprelu", {}),
        ("crosscoder", {}),
        ("crosscoder_l1", {}),
    ],
)
def test_what_saelens_has_no_class_for_is_ours_alone(
    name: str, more: dict[str, Any], tmp_path: Path
) -> None:
    sae = some_sae(name, **more)
    with pytest.raises(DataError):
        sae.saelens_export()
    folder = write(sae, tmp_path / "sae")
    assert json.loads((folder / "cfg.json").read_text())["architecture"] == f"monosemy.{name}"
    torch.testing.assert_close(load_sae(folder)(activations()), sae(activations()))
    with pytest.raises((KeyError, ValueError)):
        sae_lens.SAE.load_from_disk(str(folder))


def test_another_sae_in_the_same_folder_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    folder = write(some_sae("batchtopk"), tmp_path / "sae")
    assert (folder / "state.safetensors").is_file()
    topk = some_sae("topk")
    back = load_sae(write(topk, folder))
    assert not (folder / "state.safetensors").exists()
    assert back.spec == topk.spec and torch.equal(back.W_dec, topk.W_dec)


def test_firing_rates_are_kept_as_saelens_keeps_them(tmp_path: Path) -> None:
    density = torch.linspace(0, 1, F)
    save_sae(some_sae("topk"), tmp_path / "sae", METADATA, {}, density)
    kept = load_file(tmp_path / "sae" / "sparsity.safetensors")["sparsity"]
    assert float(kept[0]) == -10 and float(kept[-1]) == 0
    torch.testing.assert_close(10 ** kept[1:], density[1:])
    torch.testing.assert_close(read_density(tmp_path / "sae"), density)
    write(some_sae("topk"), tmp_path / "sae")  # which has none
    assert read_density(tmp_path / "sae") is None


def test_saelens_training_file_of_a_batchtopk(tmp_path: Path) -> None:
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig

    config = BatchTopKTrainingSAEConfig(d_in=D, d_sae=F, k=5, rescale_acts_by_decoder_norm=False)
    theirs = BatchTopKTrainingSAE(config)
    theirs.topk_threshold.fill_(0.4)
    theirs.save_model(str(tmp_path))
    ours = load_sae(tmp_path)
    assert ours.spec.architecture == "batchtopk"
    pre = (activations() - ours.b_dec) @ ours.W_enc + ours.b_enc
    torch.testing.assert_close(ours.encode(activations()).dense(F), pre * (pre > 0.4))


def test_saelens_training_file_of_a_matryoshka(tmp_path: Path) -> None:
    kind, config = sae_lens.saes.sae.get_sae_training_class("matryoshka_batchtopk")
    theirs = kind(config(d_in=D, d_sae=F, k=5, matryoshka_widths=[6, 20, F]))
    with torch.no_grad():
        theirs.W_dec *= torch.rand(F, 1) + 0.5
    theirs.topk_threshold.fill_(0.1)
    theirs.save_model(str(tmp_path))
    ours = load_sae(tmp_path)
    assert ours.spec.architecture == "matryoshka"
    assert ours.spec.prefixes == [6, 20]  # type: ignore[attr-defined]
    # By default it ranks and reports codes in units of the reconstruction.
    pre = (activations() @ theirs.W_enc + theirs.b_enc) * theirs.W_dec.norm(dim=1)
    wanted = pre * (pre > 0.1)
    torch.testing.assert_close(ours.encode(activations()).dense(F), wanted, rtol=1e-5, atol=1e-5)


def test_a_checkpoint_of_saelens_needs_the_scale_of_its_inputs(tmp_path: Path) -> None:
    """Its weights expect scaled activations until the end of training folds the scale in."""
    kind, config = sae_lens.saes.sae.get_sae_training_class("topk")
    theirs = kind(config(d_in=D, d_sae=F, k=5, normalize_activations="expected_average_only_in"))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += torch.randn(parameter.shape) * 0.1
    theirs.save_model(str(tmp_path))
    with pytest.raises(DataError, match=r"nothing says by what.*activation_scaler\.json"):
        load_sae(tmp_path)
    scaler = {"scaling_factor": 2.5, "has_whitening": False}
    (tmp_path / "activation_scaler.json").write_text(json.dumps(scaler))
    ours = load_sae(tmp_path)
    with torch.no_grad():
        wanted = theirs(activations() * 2.5) / 2.5
        torch.testing.assert_close(ours(activations()), wanted, rtol=1e-5, atol=1e-5)
    (tmp_path / "activation_scaler.json").write_text('{"scaling_factor": null}')
    with pytest.raises(DataError, match="no single scaling_factor"):
        load_sae(tmp_path)
