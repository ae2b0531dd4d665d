"""SAE folders: SAELens reads ours, and we refuse what we cannot read rightly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from monosemy.errors import DataError
from monosemy.formats.saelens import load_sae, read_provenance, save_sae
from monosemy.models.activations import ActivationSource
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import ModelSpec, TopKSpec, TrainingSpec, TrainRun
from monosemy.training.train import train_sae

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore
    from monosemy.models.host import HostModel

SITE = "blocks.2.hook_resid_post"
METADATA = {
    "model_name": "tiny-llama",
    "hook_name": SITE,
    "context_size": 32,
    "prepend_bos": True,
}


@pytest.fixture
def sae() -> SAE:
    sae = create(TopKSpec(d_sae=48, k=5, aux_k=7, dead_after_tokens=123), 16)
    sae.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        sae.b_enc.copy_(torch.randn(48, generator=torch.Generator().manual_seed(1)) * 0.1)
        sae.b_dec.copy_(torch.randn(16, generator=torch.Generator().manual_seed(2)))
    return sae


@pytest.fixture
def folder(sae: SAE, tmp_path: Path) -> Path:
    save_sae(sae, tmp_path / "sae", METADATA, {"spec": {"kind": "train"}})
    return tmp_path / "sae"


def assert_saelens_agrees(ours: SAE, folder: Path, x: torch.Tensor) -> Any:
    from sae_lens import SAE as SaeLens

    theirs = SaeLens.load_from_disk(folder, device="cpu")
    with torch.no_grad():
        codes = ours.encode(x)
        torch.testing.assert_close(theirs.encode(x), codes.dense(ours.d_sae), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            theirs.decode(codes.dense(ours.d_sae)), ours.decode(codes), rtol=1e-5, atol=1e-5
        )
        torch.testing.assert_close(theirs(x), ours(x), rtol=1e-5, atol=1e-5)
    return theirs


def test_saelens_reads_what_we_train(
    tiny_host: HostModel, tiny_store: TokenStore, tmp_path: Path
) -> None:
    spec = TrainRun(
        model=ModelSpec(dtype="float32", device="cpu"),
        site=SITE,
        sae=TopKSpec(d_sae=128, k=8, dead_after_tokens=2000),
        training=TrainingSpec(tokens=8000, batch_tokens=128, buffer_tokens=1024),
    )
    source = ActivationSource(tiny_host, tiny_store, SITE, None)
    trained = train_sae(spec, tiny_store, source, tmp_path / "run")
    assert trained.baseline is not None
    folder = tmp_path / "sae"
    save_sae(trained.sae, folder, METADATA, {"metrics": trained.metrics})
    save_sae(trained.baseline, folder / "baseline", METADATA, {})
    x, _ = source.rows(tiny_store.heldout_rows())
    theirs = assert_saelens_agrees(trained.sae, folder, x)
    assert_saelens_agrees(trained.baseline, folder / "baseline", x)
    assert theirs.cfg.architecture() == "topk" and theirs.cfg.k == 8
    assert theirs.cfg.metadata.hook_name == SITE
    assert theirs.cfg.metadata.model_name == "tiny-llama"
    assert theirs.cfg.metadata.context_size == 32 and theirs.cfg.metadata.prepend_bos is True
    assert torch.equal(load_sae(folder)(x), trained.sae(x))


def test_hook_z_is_flattened_as_saelens_does(sae: SAE, tmp_path: Path) -> None:
    from sae_lens import SAE as SaeLens

    save_sae(sae, tmp_path / "z", {**METADATA, "hook_name": "blocks.2.attn.hook_z"}, {})
    theirs = SaeLens.load_from_disk(tmp_path / "z", device="cpu")
    z = torch.randn(2, 5, 4, 4)
    with torch.no_grad():
        ours = sae(z.reshape(10, 16)).reshape(z.shape)
        torch.testing.assert_close(theirs(z), ours, rtol=1e-5, atol=1e-5)


def test_we_read_what_saelens_writes(tmp_path: Path) -> None:
    from sae_lens import TopKSAE, TopKSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    config = TopKSAEConfig(
        d_in=16, d_sae=40, k=3, metadata=SAEMetadata(model_name="m", hook_name=SITE)
    )
    theirs = TopKSAE(config)
    with torch.no_grad():
        theirs.W_enc.copy_(torch.randn(16, 40))
        theirs.W_dec.copy_(torch.randn(40, 16))
        theirs.b_enc.copy_(torch.randn(40))
        theirs.b_dec.copy_(torch.randn(16))
    theirs.save_model(tmp_path / "theirs")
    assert_saelens_agrees(load_sae(tmp_path / "theirs"), tmp_path / "theirs", torch.randn(20, 16))
    with pytest.raises(DataError, match=r"has no provenance\.json"):
        read_provenance(tmp_path / "theirs")


@pytest.mark.parametrize("rescaled", [False, True])
def test_we_read_what_saelens_training_leaves(tmp_path: Path, rescaled: bool) -> None:
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig

    config = TopKTrainingSAEConfig(d_in=16, d_sae=40, k=3, rescale_acts_by_decoder_norm=rescaled)
    theirs = TopKTrainingSAE(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    folder = tmp_path / "theirs"
    theirs.save_inference_model(str(folder))
    assert_saelens_agrees(load_sae(folder), folder, torch.randn(20, 16, generator=generator))


def test_a_full_disk_is_told_and_leaves_nothing(
    sae: SAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("monosemy.formats.folder.save_file", full)
    with pytest.raises(DataError, match=r"Cannot write the SAE to .*No space left"):
        save_sae(sae, tmp_path / "sae", METADATA, {})
    assert list(tmp_path.iterdir()) == []


def test_saving_and_loading_keeps_everything(sae: SAE, folder: Path) -> None:
    again = load_sae(folder)
    assert again.spec == sae.spec
    for name, value in sae.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not any(p.requires_grad for p in again.parameters())
    assert read_provenance(folder)["spec"] == {"kind": "train"}
    assert sorted(p.name for p in folder.iterdir()) == [
        "cfg.json",
        "provenance.json",
        "sae_weights.safetensors",
    ]


def test_saving_again_replaces_the_sae_and_nothing_else(sae: SAE, folder: Path) -> None:
    save_sae(sae, folder / "baseline", METADATA, {})
    (folder / "notes.txt").write_text("mine")
    other = create(TopKSpec(d_sae=20, k=2), 16)
    other.initialise(torch.Generator().manual_seed(9))
    save_sae(other, folder, METADATA, {"second": True})
    assert load_sae(folder).d_sae == 20 and read_provenance(folder)["second"] is True
    assert load_sae(folder / "baseline").d_sae == 48
    assert (folder / "notes.txt").read_text() == "mine"
    assert not list(folder.parent.glob(".*partial"))


def edited(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / "cfg.json").read_text())
        for key, value in changes.items():
            config.pop(key) if value is None else config.update({key: value})
        (folder / "cfg.json").write_text(json.dumps(config))

    return edit


def weights(**changes: torch.Tensor | None) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        file = folder / "sae_weights.safetensors"
        tensors = load_file(file)
        for name, value in changes.items():
            tensors.pop(name, None)
            if value is not None:
                tensors[name] = value
        save_file(tensors, file)

    return edit


def pickled(folder: Path) -> None:
    (folder / "sae_weights.safetensors").unlink()
    (folder / "sae_weights.pt").write_bytes(b"\x80\x04.")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (edited(architecture="temporal"), r"'temporal' SAE; known here: .*topk"),
        (edited(architecture=None), r"'None' SAE; known here: .*topk"),
        (edited(architecture=["topk"]), r"known here: .*topk"),
        (edited(k=None), "lack 'k'"),
        (edited(k="many"), "not a usable configuration"),
        (edited(k=1000), "not a usable configuration"),
        (edited(d_sae=50), r"does not fit.*W_dec \[48, 16\].*expected.*W_dec \[50, 16\]"),
        (edited(d_in=10**12), "does not fit"),
        (edited(normalize_activations="layer_norm"), "normalize_activations = 'layer_norm'"),
        (edited(normalize_activations="expected_average_only_in"), "scaled to an average norm"),
        (edited(d_in=True), "does not fit|not a usable"),
        (edited(d_in=None), "lack 'd_in'"),
        (edited(d_in="16"), "does not fit|not a usable"),
        (edited(d_sae=-3), "not a usable configuration"),
        (edited(metadata={"sae_lens_version": "5.2.0"}), r"no SAELens v6 folder.*'5.2.0'"),
        (edited(metadata=None), r"no SAELens v6 folder"),
        (weights(W_enc=torch.zeros(48, 16)), r"W_enc \[48, 16\]"),
        (weights(b_dec=None), "does not fit"),
        (weights(threshold=torch.zeros(48)), "does not fit"),
        (weights(b_enc=torch.full((48,), float("nan"))), "b_enc holds values that are no numbers"),
        (pickled, r"sae_weights\.pt: pickled weights can run code"),
        (lambda f: (f / "sae_weights.safetensors").unlink(), r"has no sae_weights\.safetensors"),
        (lambda f: (f / "sae_weights.safetensors").write_bytes(b"\x80\x04x"), "damaged or no safe"),
        (lambda f: (f / "cfg.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "cfg.json").write_text("[]"), "does not hold a JSON object"),
        (shutil.rmtree, r"has no cfg\.json"),
    ],
)
def test_what_cannot_be_read_rightly_is_refused(
    folder: Path, damage: Callable[[Path], Any], says: str
) -> None:
    damage(folder)
    with pytest.raises(DataError, match=says):
        load_sae(folder)


def test_cfg_wins_over_a_provenance_that_says_otherwise(folder: Path) -> None:
    edited(k=2)(folder)
    again = load_sae(folder)
    assert again.spec.k == 2
    assert np.asarray(again.encode(torch.zeros(3, 16)).indices).shape == (3, 2)
