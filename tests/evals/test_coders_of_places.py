"""Cross-layer transcoders and crosscoders the whole way: runs, folders, evaluations, two hosts."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from monosemy import stages
from monosemy.data.store import TokenStore
from monosemy.errors import DataError, Interrupted, SpecError
from monosemy.formats.saelens import load_sae
from monosemy.models.activations import ActivationSource
from monosemy.models.host import HostModel
from monosemy.run_hosts import load_hosts
from monosemy.sae_folder import SaeFolder
from monosemy.specs import (
    EvaluateRun,
    EvaluationSpec,
    IndexingSpec,
    IndexRun,
    ModelSpec,
    TextSpec,
    TrainRun,
    parse_spec,
)
from monosemy.specs.memory import sae_bytes
from monosemy.training.train import train_saes
from monosemy.workspace import Workspace
from tests.training.test_train_sae import StopsAt

MIDS = [f"blocks.{layer}.hook_resid_mid" for layer in range(3)]
MLPS = [f"blocks.{layer}.hook_mlp_out" for layer in range(3)]
POSTS = ["blocks.0.hook_resid_post", "blocks.2.hook_resid_post"]
SITE = "blocks.2.hook_resid_post"
CLT: dict[str, Any] = {"reads": MIDS, "writes": MLPS}
CASES = {
    "clt": ({"architecture": "clt", "k": 6}, CLT),
    "shared": ({"architecture": "clt", "k": 6, "incremental": True}, CLT),
    "clt_jumprelu": ({"architecture": "clt_jumprelu", "target_l0": 6}, CLT),
    "crosscoder": ({"architecture": "crosscoder", "k": 6}, {"reads": POSTS}),
    "crosscoder_l1": ({"architecture": "crosscoder_l1", "target_l0": 6}, {"reads": POSTS}),
}
ASKED = EvaluationSpec(tokens=300, reconstruction_tokens=1500)


def run_of(text: TextSpec, sae: dict[str, Any], places: dict[str, Any], **more: Any) -> TrainRun:
    spec = parse_spec(
        {
            "kind": "train",
            "text": text.model_dump(mode="json"),
            "sae": {"d_sae": 96, "dead_after_tokens": 3000, **sae},
            **places,
            "training": {
                "tokens": 9600,
                "batch_tokens": 64,
                "buffer_tokens": 1024,
                "learning_rate": 5e-3,
            },
            **more,
        }
    )
    assert isinstance(spec, TrainRun)
    return spec


@pytest.mark.parametrize("name", CASES)
def test_the_whole_way(
    name: str, tiny_host: HostModel, tiny_text: TextSpec, tmp_path: Path
) -> None:
    sae_options, places = CASES[name]
    spec, workspace = run_of(tiny_text, sae_options, places), Workspace(tmp_path)

    def load(_spec: Any) -> HostModel:
        return tiny_host

    folder = tmp_path / "sae"
    made = stages.train(spec, folder, tmp_path / "run", workspace, load)
    written = places.get("writes", places["reads"])
    assert made.spec.sae.places == len(written)  # type: ignore[attr-defined]
    assert len(made.metrics["activation_scale"]) == len(places["reads"])
    config = json.loads((folder / "cfg.json").read_text(encoding="utf-8"))
    assert config["architecture"] == f"monosemy.{sae_options['architecture']}"
    sae = SaeFolder(folder, workspace)
    assert sae.spec == spec and sae.sae.spec == spec.sae
    metrics = stages.evaluate(EvaluateRun(sae="x", evaluation=ASKED), sae, workspace, load)
    assert set(metrics["parts"]) == set(written) and metrics["ce_sae"] > 0
    assert 0 < metrics["fvu"] < 1
    if name.startswith("crosscoder"):
        scaling = metrics["latent_scaling"]
        assert set(scaling["places"]) == set(written)
        fires = round((1 - metrics["dead_share"]) * 96)
        counts = metrics["crosscoder"]
        assert sum(counts["exclusive"].values()) + counts["weak"] + counts["shared"] == fires
    else:
        own = metrics["cross_layer"]["own_share"]
        assert list(own) == written and own[written[0]] == pytest.approx(1.0)
        assert all(0 <= share <= 1 for share in own.values())
        assert sum(metrics["cross_layer"]["norm_by_distance"]) == pytest.approx(1.0)
    json.dumps(metrics, allow_nan=False)
    reader, _, _ = stages.index(
        IndexRun(sae="x", indexing=IndexingSpec(top_examples=2)),
        sae,
        lambda _text: tmp_path / "index",
        workspace,
        load,
    )
    assert reader.n_features == 96 and reader.n_postings > 0
    at = {each.place for feature in range(96) for each in reader.evidence(feature).places}
    assert at == {*places["reads"], *written}


@pytest.mark.parametrize("name", ["clt", "clt_jumprelu", "crosscoder"])
def test_a_stopped_run_ends_with_the_same_bits(
    name: str, tiny_host: HostModel, tiny_store: TokenStore, tiny_text: TextSpec, tmp_path: Path
) -> None:
    spec = run_of(tiny_text, *CASES[name])
    source = ActivationSource(tiny_host, tiny_store, stages.sites_of([spec]), None)
    with pytest.raises(Interrupted):
        train_saes([spec], tiny_store, source, tmp_path / "run", StopsAt(3000))
    (resumed,) = train_saes([spec], tiny_store, source, tmp_path / "run")
    (whole,) = train_saes([spec], tiny_store, source, tmp_path / "whole")
    for key, value in whole.sae.state_dict().items():
        assert torch.equal(resumed.sae.state_dict()[key], value), key


@pytest.fixture
def other(tiny_host: HostModel) -> HostModel:
    """The host model after a little training of its own."""
    model = copy.deepcopy(tiny_host.model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * weight.std() * torch.randn(weight.shape, generator=generator))
    return HostModel.wrap(model, tiny_host.tokenizer, "other")


def test_a_run_over_two_host_models(
    tiny_host: HostModel, other: HostModel, tiny_text: TextSpec, tmp_path: Path
) -> None:
    hosts = [{"role": "chat", "model": {"name": "other"}}]
    places = {"reads": [SITE, f"chat:{SITE}"]}
    spec = run_of(tiny_text, {"architecture": "crosscoder", "k": 6}, places, hosts=hosts)
    workspace = Workspace(tmp_path)
    there = {"other": other}

    def load(model: ModelSpec) -> HostModel:
        return there.get(model.name, tiny_host)

    stages.train(spec, tmp_path / "sae", tmp_path / "run", workspace, load)
    sae = SaeFolder(tmp_path / "sae", workspace)
    assert sae.provenance["hosts"]["chat"]["fingerprint"] == other.fingerprint
    assert load_sae(tmp_path / "sae").d_in == 2 * tiny_host.d_model
    metrics = stages.evaluate(EvaluateRun(sae="x", evaluation=ASKED), sae, workspace, load)
    assert set(metrics["parts"]) == set(places["reads"]) and metrics["ce_sae"] is None
    assert metrics["about"]["host_fingerprints"] == {"chat": other.fingerprint}
    reader, _, _ = stages.index(
        IndexRun(sae="x", indexing=IndexingSpec(top_examples=2)),
        sae,
        lambda _text: tmp_path / "index",
        workspace,
        load,
    )
    assert reader.meta["host_fingerprints"] == {"chat": other.fingerprint}
    there["other"] = tiny_host
    with pytest.raises(DataError, match="has changed"):
        stages.evaluate(EvaluateRun(sae="x", evaluation=ASKED), sae, workspace, load)


def test_host_models_must_share_a_tokenizer(
    tiny_host: HostModel, other: HostModel, tiny_text: TextSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = [{"role": "chat", "model": {"name": "other"}}]
    places = {"reads": [SITE, f"chat:{SITE}"]}
    spec = run_of(tiny_text, {"architecture": "crosscoder", "k": 6}, places, hosts=hosts)
    monkeypatch.setitem(other.stamp.parts, "tokenizer", "another")
    with pytest.raises(DataError, match="share a tokenizer"):
        load_hosts(spec, lambda model: other if model.name == "other" else tiny_host)


@pytest.mark.parametrize(
    ("sae", "places", "words"),
    [
        ({"architecture": "clt"}, {"reads": MIDS, "writes": MLPS[:2]}, "3, not 3 and 2"),
        ({"architecture": "clt"}, {"reads": MIDS[::-1], "writes": MLPS[::-1]}, "layer by layer"),
        (
            {"architecture": "clt"},
            {"reads": [MIDS[0], MIDS[2]], "writes": MLPS[:2]},
            "comes after",
        ),
        ({"architecture": "clt", "d_sae": 97}, CLT, "divide by the 3 layers"),
        ({"architecture": "clt", "places": 2}, CLT, "2, not 3 and 3"),
        ({"architecture": "clt", "ista_steps": 1}, CLT, "no ista_steps"),
        ({"architecture": "crosscoder", "places": 3}, {"reads": POSTS}, "2 places are written"),
        (
            {"architecture": "crosscoder"},
            {"reads": [SITE], "hosts": [{"role": "chat", "model": {}}]},
            "no place of it is read",
        ),
        (
            {"architecture": "crosscoder"},
            {"reads": [SITE, f"x:{SITE}"], "hosts": [{"role": "chat", "model": {}}]},
            "'x' is not known",
        ),
        (
            {"architecture": "crosscoder"},
            {"reads": [SITE, f"chat:{SITE}"], "hosts": [{"role": "host", "model": {}}]},
            "roles of their own|is not known",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    sae: dict[str, Any], places: dict[str, Any], words: str, tiny_text: TextSpec
) -> None:
    with pytest.raises(SpecError, match=words):
        run_of(tiny_text, {"k": 6, **sae}, places)


def test_latents_of_a_dictionary_are_not_divided(tiny_text: TextSpec) -> None:
    training = {"devices": 2, "split": "dictionary"}
    with pytest.raises(SpecError, match="not divided over 2 devices"):
        run_of(tiny_text, {"architecture": "clt", "k": 6}, CLT, training=training)


def test_memory_is_reckoned_by_what_is_stored(tiny_text: TextSpec) -> None:
    """3 layers, 32 latents each, width 10: encoders 3 * 320, decoders 320 * 6 (or * 3)."""
    weights = {}
    for name in ("clt", "shared"):
        spec = run_of(tiny_text, *CASES[name])
        training = spec.training.model_copy(update={"frozen_decoder_baseline": False})
        weights[name] = sae_bytes([spec], training, 10) - 4 * 64 * 96
    assert weights["clt"] == 4 * 4 * (3 * 320 + 6 * 320)
    assert weights["shared"] == 4 * 4 * (3 * 320 + 3 * 320)
