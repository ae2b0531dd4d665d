"""A model, a text or an SAE that changes between two calls is told, not passed over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import monosemy
from monosemy.data.store import TokenStore, first_text_id_for, prepare_text, text_id_for
from monosemy.errors import DataError
from monosemy.models.activation_cache import read_description
from monosemy.models.activations import ActivationSource
from monosemy.models.host import HostModel
from monosemy.progress import SILENT
from monosemy.sae_folder import SaeFolder
from monosemy.sae_stamp import check_index, sae_stamp
from monosemy.specs import ModelSpec, TextSpec
from monosemy.workspace import Workspace

SITE = "blocks.2.hook_resid_post"


@pytest.fixture
def model(host_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(host_folder, tmp_path / "model"))


@pytest.fixture
def text(tiny_text: TextSpec, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_text.source, tmp_path / "text.jsonl"))


def spec_of(model: Path, text: Path) -> dict[str, Any]:
    return {
        "model": {"name": str(model), "dtype": "float32", "device": "cpu"},
        "text": {"source": str(text), "context_size": 32, "heldout_fraction": 0.2},
        "site": SITE,
        "sae": {"d_sae": 64, "k": 4},
        "training": {"tokens": 2000, "batch_tokens": 200, "buffer_tokens": 2000},
        "evaluation": {"tokens": 256, "reconstruction_tokens": 256},
        "indexing": {"top_examples": 2, "quantile_examples": 1, "window": 8},
        "explanation": None,
        "scoring": None,
    }


def change_weights(file: Path, name: str) -> None:
    tensors = load_file(file)
    tensors[name].view(-1)[-1] += 1e-3
    save_file(tensors, file, {"format": "pt"})


def test_the_pipeline_goes_on_only_with_what_it_began_with(
    model: Path, text: Path, tmp_path: Path
) -> None:
    def run() -> Any:
        return monosemy.pipeline(spec_of(model, text), tmp_path / "home", reporter=SILENT)

    first = run()
    assert first.evaluation is not None
    assert first.evaluation["about"]["sae_digest"] == sae_stamp(first.folder).digest
    assert first.index.meta["sae_digest"] == sae_stamp(first.folder).digest
    assert run().evaluation == first.evaluation

    lines = text.read_text()
    text.write_text(lines + "".join(json.dumps({"text": f"More {n}."}) + "\n" for n in range(3)))
    with pytest.raises(DataError, match=r"text file text.jsonl: 3 lines more"):
        run()
    text.write_text(lines)
    assert run().evaluation == first.evaluation, "the same content is the same text"

    weights = model / "model.safetensors"
    kept = weights.read_bytes()
    change_weights(weights, "model.layers.3.mlp.down_proj.weight")
    with pytest.raises(DataError, match=r"host model .*\(weights of blocks.3\)"):
        run()
    weights.write_bytes(kept)
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Lowercase"}
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(DataError, match=r"host model .*\(tokenizer\)"):
        run()
    tokenizer["normalizer"] = None
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))

    change_weights(first.folder / "sae_weights.safetensors", "W_dec")
    with pytest.raises(DataError, match=r"files of the SAE .* have changed: W_dec"):
        run()
    with pytest.raises(DataError, match="made of other weights"):
        check_index(first.folder, first.index.folder, None, "x")


def test_an_sae_digest_is_of_content(model: Path, text: Path, tmp_path: Path) -> None:
    spec = {**spec_of(model, text), "evaluation": None}
    folder = monosemy.pipeline(spec, tmp_path / "home", reporter=SILENT).folder
    before = sae_stamp(folder)
    copied = Path(shutil.copytree(folder, tmp_path / "copy"))
    tensors = load_file(copied / "sae_weights.safetensors")
    backwards = dict(reversed(tensors.items()))
    save_file(backwards, copied / "sae_weights.safetensors")
    assert sae_stamp(copied) == before
    for name in tensors:
        other = {**tensors, name: tensors[name].clone()}
        flat = other[name].view(-1)
        flat[0] = torch.nextafter(flat[0], flat[0] + 1)
        save_file(other, copied / "sae_weights.safetensors")
        assert sae_stamp(copied).digest != before.digest, name
    save_file(tensors, copied / "sae_weights.safetensors")
    config = json.loads((copied / "cfg.json").read_text())
    (copied / "cfg.json").write_text(json.dumps({**config, "k": 5}))
    assert sae_stamp(copied).digest != before.digest


def first_form(folder: Path, host: HostModel) -> None:
    """As an SAE's provenance was before stamps."""
    file = folder / "provenance.json"
    data = json.loads(file.read_text())
    data.pop("weights")
    data["model"].pop("parts")
    data["model"]["fingerprint"] = host.sampled_fingerprint
    data["text"].pop("stamp")
    data["text"].pop("tokens_digest")
    file.write_text(json.dumps(data))


def test_stamps_of_the_first_form_are_verified_and_replaced(
    model: Path, text: Path, tmp_path: Path
) -> None:
    home = Workspace(tmp_path / "home")
    folder = monosemy.pipeline(spec_of(model, text), home.root, reporter=SILENT).folder
    host = HostModel.load(ModelSpec(**spec_of(model, text)["model"]), home)
    first_form(folder, host)
    sae = SaeFolder(folder, home)
    kept = sae.host_fingerprint
    assert kept == host.sampled_fingerprint
    store = prepare_text(sae.spec.text, host, home)
    sae.check(host, store)
    renewed = SaeFolder(folder, home)
    assert renewed.provenance["model"]["fingerprint"] == host.fingerprint
    assert renewed.provenance["weights"]["digest"] == sae_stamp(folder).digest
    assert renewed.provenance["text"]["tokens_digest"] == store.meta["tokens_digest"]
    assert renewed.host_fingerprint == kept, "keys of what is stored stay as they are"
    with torch.no_grad():
        host.model.lm_head.weight.add_(1)
    other = HostModel.wrap(host.model, host.tokenizer, "other")
    first_form(folder, host)
    with pytest.raises(DataError, match="weights or vocabulary"):
        SaeFolder(folder, home).check(other)


def as_once(store: TokenStore, text: TextSpec, host: HostModel, home: Workspace) -> Path:
    """The store under the name and with the description that it would have had."""
    once = home.root / "text" / first_text_id_for(text, host)
    shutil.move(store.folder, once)
    meta = json.loads((once / "store.json").read_text())
    for name in ("stamp", "tokens_digest"):
        meta.pop(name)
    meta["text_id"] = once.name
    meta["host"] = {"name": host.name, "fingerprint": host.sampled_fingerprint}
    (once / "store.json").write_text(json.dumps(meta))
    return once


def test_a_store_and_a_cache_of_earlier_days_are_used_as_long_as_they_hold_true(
    model: Path, text: Path, tmp_path: Path
) -> None:
    home, spec = Workspace(tmp_path / "home"), TextSpec(source=str(text), context_size=32)
    host = HostModel.load(ModelSpec(name=str(model), dtype="float32", device="cpu"), home)
    built = prepare_text(spec, host, home)
    assert built.text_id == text_id_for(spec, host) != first_text_id_for(spec, host)
    once = as_once(built, spec, host, home)
    store = prepare_text(spec, host, home)
    assert store.folder == once and store.meta["host"]["fingerprint"] == host.fingerprint

    cache = tmp_path / "cache"
    source = ActivationSource(host, store, SITE, cache)
    wanted, _ = source.rows(np.arange(8))
    source.close()

    def forget(by: float) -> None:
        data = json.loads((cache / "cache.json").read_text())
        data.pop("model", None)
        (cache / "cache.json").write_text(json.dumps(data))
        acts = np.memmap(cache / "acts.bf16", "<i2", "r+")
        acts[:] = np.where(acts != 0, acts + int(by), acts)

    forget(0)
    again = ActivationSource(host, store, SITE, cache)
    assert again.cached_share() > 0 and torch.equal(again.rows(np.arange(8))[0], wanted)
    assert (read_description(cache) or {})["model"] == host.fingerprint
    again.close()
    forget(100)  # of another model
    assert ActivationSource(host, store, SITE, cache).cached_share() == 0

    change_weights(model / "model.safetensors", "model.layers.0.mlp.up_proj.weight")
    other = HostModel.load(ModelSpec(name=str(model), dtype="float32", device="cpu"), home)
    assert first_text_id_for(spec, other) == once.name, "its samples do not see it"
    assert prepare_text(spec, other, home).folder != once


def test_a_text_is_told_by_its_content(text: Path, tiny_host: HostModel, tmp_path: Path) -> None:
    spec = TextSpec(source=str(text))
    name = text_id_for(spec, tiny_host)
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.copy(text, tmp_path / "elsewhere" / text.name)
    assert text_id_for(spec.model_copy(update={"source": str(moved)}), tiny_host) == name
    stat, data = text.stat(), text.read_bytes()
    text.write_bytes(data.replace(b"winter", b"summer", 1))
    import os

    os.utime(text, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as large, and as old
    assert text_id_for(spec, tiny_host) != name
    text.write_bytes(data)
    assert text_id_for(spec, tiny_host) == name
