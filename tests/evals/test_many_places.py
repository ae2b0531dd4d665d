"""Crosscoders and cross-layer transcoders: several places read and written, without plumbing.

A toy architecture is registered here; everything else is what every SAE goes through.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from monosemy import stages
from monosemy.data.store import TokenStore
from monosemy.errors import DataError, Interrupted
from monosemy.evals.evaluate import evaluate_sae
from monosemy.evals.splice import spliced_losses
from monosemy.formats.saelens import load_sae
from monosemy.hosted_sae import HostedSAE
from monosemy.import_stage import import_sae
from monosemy.index.builder import build_index
from monosemy.index.logits import LogitLens
from monosemy.models.activations import ActivationSource
from monosemy.models.host import HostModel
from monosemy.sae_folder import SaeFolder
from monosemy.saes.base import SAE, StepInfo, TrainingPass, fired_counts
from monosemy.saes.codes import Codes
from monosemy.saes.registry import create
from monosemy.specs import (
    EvaluateRun,
    EvaluationSpec,
    IndexRun,
    TextSpec,
    TopKSpec,
    TrainRun,
    parse_spec,
    parse_stored_spec,
)
from monosemy.specs import run as run_kinds
from monosemy.specs.architectures import ARCHITECTURES, SAESpec
from monosemy.specs.hooks import HOST, Hook, Hooks
from monosemy.specs.parts import IndexingSpec
from monosemy.training.train import train_saes
from monosemy.workspace import Workspace
from tests.training.test_train_sae import StopsAt

MIDS = ["blocks.1.hook_resid_mid", "blocks.2.hook_resid_mid"]
POSTS = ["blocks.0.hook_resid_post", "blocks.2.hook_resid_post", "blocks.1.attn.hook_z"]
MLPS = ["blocks.1.hook_mlp_out", "blocks.2.hook_mlp_out"]
CROSSCODER = (POSTS, None)
CROSS_LAYER = (MIDS, ["blocks.1.hook_resid_post", "blocks.2.hook_resid_post"])


class ToySpec(SAESpec):
    implementation = "tests.evals.test_many_places:Toy"
    version = "1"
    architecture: Literal["toy"] = "toy"
    k: int = 4


class Toy(SAE):
    """The k largest latents, whatever they read and write."""

    spec: ToySpec

    def encode(self, x_ND: Tensor, budget: int | float | None = None) -> Codes:
        pre_NF = (self.centre(x_ND) @ self.W_enc + self.b_enc).relu()
        values, indices = pre_NF.topk(int(budget or self.spec.k), dim=1)
        return Codes(indices, values)

    def training_pass(self, x_ND: Tensor, target_ND: Tensor, info: StepInfo) -> TrainingPass:
        codes = self.encode(x_ND)
        l0 = codes.l0().float().mean()
        return TrainingPass(self.decode(codes), fired_counts(codes, self.d_sae), l0, {})

    def saelens_export(self) -> Any:
        raise DataError("SAELens has no such class.")


class ToyRun(TrainRun):
    sae: ToySpec = ToySpec(d_sae=64)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(ARCHITECTURES._classes, "toy", ToySpec)
    monkeypatch.setitem(run_kinds._kinds, "train", ToyRun)
    yield


def run_of(text: TextSpec, reads: list[str], writes: list[str] | None, **training: Any) -> TrainRun:
    settings = {"tokens": 12800, "batch_tokens": 64, "buffer_tokens": 1024, "learning_rate": 5e-3}
    spec = parse_spec(
        {
            "kind": "train",
            "text": text.model_dump(mode="json"),
            "reads": reads,
            "writes": writes,
            "sae": {"architecture": "toy", "d_sae": 64, "k": 6},
            "training": {**settings, **training},
        }
    )
    assert isinstance(spec, TrainRun)
    return spec


@pytest.mark.parametrize(("reads", "writes"), [CROSSCODER, CROSS_LAYER])
def test_the_whole_way(
    reads: list[str],
    writes: list[str] | None,
    tiny_host: HostModel,
    tiny_text: TextSpec,
    tmp_path: Path,
) -> None:
    spec, workspace = run_of(tiny_text, reads, writes), Workspace(tmp_path)
    folder = tmp_path / "sae"

    def load(_spec: Any) -> HostModel:
        return tiny_host

    made = stages.train(spec, folder, tmp_path / "run", workspace, load)
    assert made.metrics["fvu"] < 0.98
    limits, scales = made.metrics["max_norm"], made.metrics["activation_scale"]
    assert set(limits) == set(reads) and len(scales) == len(reads)
    stored_hooks = made.provenance["hooks"]
    assert [entry["site"] for entry in stored_hooks["writes"]] == (writes or reads)
    assert all(
        entry["width"] == tiny_host.site_width(entry["site"]) for entry in stored_hooks["reads"]
    )

    sae = SaeFolder(folder, workspace)
    assert sae.spec == spec and isinstance(sae.sae, Toy)
    assert sae.sae.d_in == sum(tiny_host.site_width(site) for site in reads)
    assert sae.sae.transcodes == (writes is not None)

    asked = EvaluationSpec(tokens=400, reconstruction_tokens=1500)
    metrics = stages.evaluate(EvaluateRun(sae="x", evaluation=asked), sae, workspace, load)
    assert set(metrics["parts"]) == set(writes or reads)
    assert 0 < metrics["fvu"] < 1.05
    assert all(0 < part["fvu"] < 1.1 for part in metrics["parts"].values())
    assert metrics["ce_sae"] > 0 and metrics["kl"] > 0 and metrics["spliced_share"] > 0.9
    assert set(metrics["frozen_decoder_baseline"]["parts"]) == set(writes or reads)

    reader, store, _ = stages.index(
        IndexRun(sae="x", indexing=IndexingSpec(top_examples=3)),
        sae,
        lambda _text: tmp_path / "index",
        workspace,
        load,
    )
    assert reader.n_postings > 0
    source = stages.activations(spec, stages.sites_of([spec]), tiny_host, store, workspace)
    acts_NW, _ = source.rows(np.arange(store.n_rows))
    x_ND = torch.cat([acts_NW[:, source.columns[site]] for site in reads], dim=1)
    fires = sae.sae.encode(x_ND).dense(64) > 0
    alive = int(fires.sum(0).argmax())
    assert abs(len(reader.postings(alive)[0]) - int(fires[:, alive].sum())) <= len(fires) // 50
    assert len(reader.evidence(alive).promoted) == 10


def test_a_folder_of_one_is_imported_as_what_it_is(
    tiny_host: HostModel, tiny_text: TextSpec, tmp_path: Path
) -> None:
    spec, workspace = run_of(tiny_text, *CROSS_LAYER), Workspace(tmp_path)
    stages.train(spec, tmp_path / "sae", tmp_path / "run", workspace, lambda _: tiny_host)
    taken = parse_spec(
        {"kind": "import", "source": str(tmp_path / "sae"), "text": tiny_text.model_dump()}
    )
    assert taken.site is None and taken.writes is None
    copied = import_sae(taken, tmp_path / "copy", lambda _: tiny_host)
    assert copied.spec.hooks == spec.hooks
    assert SaeFolder(tmp_path / "copy", workspace).spec.hooks == spec.hooks
    for name, value in load_sae(tmp_path / "sae").state_dict().items():
        assert torch.equal(value, load_sae(tmp_path / "copy").state_dict()[name])
    elsewhere = taken.model_copy(update={"site": "blocks.0.hook_resid_post"})
    with pytest.raises(DataError, match="reconstructs other"):
        import_sae(elsewhere, tmp_path / "other", lambda _: tiny_host)


def test_a_run_of_many_places_resumes_with_the_same_bits(
    tiny_host: HostModel, tiny_store: TokenStore, tiny_text: TextSpec, tmp_path: Path
) -> None:
    spec = run_of(tiny_text, *CROSS_LAYER)
    source = ActivationSource(tiny_host, tiny_store, stages.sites_of([spec]), None)
    with pytest.raises(Interrupted):
        train_saes([spec], tiny_store, source, tmp_path / "run", StopsAt(4000))
    (resumed,) = train_saes([spec], tiny_store, source, tmp_path / "run")
    (whole,) = train_saes([spec], tiny_store, source, tmp_path / "whole")
    for name, value in whole.sae.state_dict().items():
        assert torch.equal(resumed.sae.state_dict()[name], value), name


def exact(width: int) -> SAE:
    sae = create(TopKSpec(d_sae=2 * width, k=2 * width), width)
    with torch.no_grad():
        sae.W_dec.copy_(torch.cat([torch.eye(width), -torch.eye(width)]))
        sae.W_enc.copy_(sae.W_dec.T)
    return sae


def test_an_exact_crosscoder_leaves_the_model_as_it_is(
    tiny_host: HostModel, tiny_store: TokenStore
) -> None:
    hooks = Hooks.at(POSTS)
    width = sum(tiny_host.site_width(site) for site in POSTS)
    hosted = HostedSAE(tiny_host, exact(width), hooks)
    source = ActivationSource(tiny_host, tiny_store, POSTS, None)
    asked = EvaluationSpec(tokens=200, reconstruction_tokens=500)
    metrics = evaluate_sae(hosted, None, tiny_store, source, asked)
    assert metrics["ce_sae"] == pytest.approx(metrics["ce_clean"], abs=1e-5)
    assert all(part["fvu"] < 1e-9 for part in metrics["parts"].values())
    assert metrics["ce_zero"] != pytest.approx(metrics["ce_clean"], abs=1e-4)


def test_all_places_are_replaced_at_once_by_what_is_made_of_clean_activations(
    tiny_host: HostModel, tiny_store: TokenStore
) -> None:
    """Every MLP recomputed from the clean stream before it: nothing changes.  Halved, they are what
    halving each of these outputs in the forward gives."""
    blocks = [copy.deepcopy(tiny_host.model.model.layers[layer]) for layer in (1, 2)]
    width = tiny_host.d_model
    sae = create(TopKSpec(d_sae=64), 2 * width, 2 * width)

    @torch.no_grad()
    def recomputed(read_ND: Tensor) -> Tensor:
        parts = read_ND.split(width, dim=1)
        outs = [
            block.mlp(block.post_attention_layernorm(part))
            for block, part in zip(blocks, parts, strict=True)
        ]
        return torch.cat(outs, dim=1)

    hosted, rows = HostedSAE(tiny_host, sae, Hooks.at(MIDS, MLPS)), np.arange(6)
    made = {"exact": recomputed, "half": lambda x_ND: recomputed(x_ND) / 2}
    mean_D = torch.zeros(2 * width)
    losses = spliced_losses(hosted, tiny_store, rows, made, mean_D, 10**6, lambda _: None)
    assert losses["exact"]["kl"] == pytest.approx(0.0, abs=1e-6)
    batch = tiny_store.batch(rows)
    ids, mask = torch.from_numpy(batch.ids_BS), torch.from_numpy(batch.mask_BS)
    real = torch.from_numpy(batch.real_BS)
    clean = tiny_host.capture(ids, mask, MLPS)
    edits = {
        site: lambda acts, half=clean[site] / 2: torch.where(real[..., None], half, acts)
        for site in MLPS
    }
    logits = tiny_host.logits(ids, mask, edits)[:, :-1]
    counted = real[:, 1:] & real[:, :-1]
    wanted = torch.nn.functional.cross_entropy(logits[counted], ids[:, 1:][counted])
    assert losses["half"]["ce_sae"] == pytest.approx(float(wanted), rel=1e-5)


def test_what_is_added_to_the_stream_adds_up_and_the_stream_replaces(tiny_host: HostModel) -> None:
    width = tiny_host.d_model
    rows_FD = torch.randn(5, 2 * width, generator=torch.Generator().manual_seed(0))

    def effects(writes: list[str], rows: Tensor) -> Tensor:
        hooks = Hooks.at(writes).with_widths(lambda hook: tiny_host.site_width(hook.site))
        return LogitLens(tiny_host, hooks, 4).effects(rows).promoted

    one = ["blocks.2.hook_resid_post"]
    first, second = rows_FD.split(width, dim=1)
    torch.testing.assert_close(effects(MLPS, rows_FD), effects(one, first + second))
    stream = ["blocks.0.hook_resid_post", "blocks.2.hook_resid_post"]
    torch.testing.assert_close(effects(stream, rows_FD), effects(one, second))
    mixed = ["blocks.3.hook_mlp_out", "blocks.2.hook_resid_post"]
    torch.testing.assert_close(effects(mixed, rows_FD), effects(one, first + second))


def test_an_sae_of_two_host_models(
    tiny_host: HostModel, tiny_store: TokenStore, tiny_text: TextSpec, tmp_path: Path
) -> None:
    """One forward of each; what is spliced into one model alone would mean nothing, so no losses
    are told, and the logits are those of the run's own."""
    model = copy.deepcopy(tiny_host.model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)
    other = HostModel.wrap(model, tiny_host.tokenizer, "other")
    site = "blocks.2.hook_resid_post"
    places = [site, f"chat:{site}"]
    spec = parse_stored_spec(
        run_of(tiny_text, [site], None).model_dump(mode="json") | {"reads": places}
    )
    assert isinstance(spec, TrainRun) and spec.hooks.other_hosts == ("chat",)
    source = ActivationSource(
        {HOST: tiny_host, "chat": lambda: other}, tiny_store, stages.sites_of([spec]), None
    )
    rows = np.arange(3)
    acts_NW, _ = source.rows(rows)
    for name, host in ((site, tiny_host), (places[1], other)):
        alone, _ = ActivationSource(host, tiny_store, site, None).rows(rows)
        torch.testing.assert_close(acts_NW[:, source.columns[name]], alone)
    (trained,) = train_saes([spec], tiny_store, source, tmp_path / "run")
    assert trained.metrics["fvu"] < 0.95
    hooks = spec.hooks.with_widths(lambda _hook: tiny_host.d_model)
    hosted = HostedSAE(tiny_host, trained.sae, hooks, trained.metrics["max_norm"])
    assert "several host models (chat)" in str(hosted.no_losses)
    asked = EvaluationSpec(tokens=100, reconstruction_tokens=800)
    metrics = evaluate_sae(hosted, trained.baseline, tiny_store, source, asked)
    assert set(metrics["parts"]) == set(places) and metrics["ce_sae"] is None
    folder = tmp_path / "index"
    reader = build_index(hosted, source, tiny_store, folder, IndexingSpec(top_examples=2))
    assert reader.n_postings > 0 and reader.meta["hooks"]["reads"][1]["host"] == "chat"
    with pytest.raises(DataError, match="writes at one"):
        hosted.direction(0)
    assert Hook.parse(places[1]) == Hook(site, "chat")
