"""SynthSAEBench's world on disk, and its figures for dictionaries whose figures are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.evals.synthetic.kept_world import KeptWorld, configured, kept_world
from monosemy.evals.synthetic.metrics import TruthSums
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import JumpReLUSpec

FEATURES, D, SAMPLES, JUDGED = 256, 96, 3000, 3000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worlds") / "world"


@pytest.fixture(scope="module")
def world(folder: Path) -> KeptWorld:
    return kept_world(folder, configured(FEATURES, D, 3), SAMPLES, JUDGED)


def truth_of(world: KeptWorld) -> Tensor:
    return torch.cat([sample.truth_NF for sample in world.judged()])


def test_what_is_kept_is_read_again_and_nothing_else(folder: Path, world: KeptWorld) -> None:
    again = kept_world(folder, configured(FEATURES, D, 3), 1000, JUDGED)
    assert torch.equal(again.batch(0, 10), world.batch(0, 10))
    assert torch.equal(truth_of(again), truth_of(world))
    for config, samples, judged in (
        (configured(FEATURES, D, 4), SAMPLES, JUDGED),
        (configured(FEATURES, D, 3), SAMPLES + 1, JUDGED),
        (configured(FEATURES, D, 3), SAMPLES, JUDGED - 1),
    ):
        with pytest.raises(DataError, match="another world, or fewer samples"):
            kept_world(folder, config, samples, judged)


def test_a_half_drawn_world_is_drawn_anew(tmp_path: Path) -> None:
    config = configured(64, 32, 0)
    kept_world(tmp_path, config, 600, 100)
    (tmp_path / "world.json").unlink()
    done: list[int] = []
    assert len(kept_world(tmp_path, config, 600, 100, done.append).train_ND) == 600
    assert done == [512, 600]


def test_samples_are_sums_of_features_and_never_trained_on(world: KeptWorld) -> None:
    x_ND = torch.cat([sample.x_ND for sample in world.judged()])
    offset = x_ND - truth_of(world) @ world.features_FD
    torch.testing.assert_close(offset, offset[:1].expand_as(offset), atol=1e-4, rtol=0)
    assert float(x_ND.norm(dim=1).mean()) == pytest.approx(D**0.5, rel=0.05)
    torch.testing.assert_close(
        torch.cat([world.batch(start, 500) for start in range(0, SAMPLES, 500)]).mean(0),
        x_ND.mean(0),
        atol=0.12,
        rtol=0,
    )
    # Where few features are active samples may be alike; of the others none was trained on.
    train = {tuple(row) for row in world.train_ND[:, :3].tolist()}
    full = x_ND[(truth_of(world) > 0).sum(1) >= 5].half()[:, :3].tolist()
    assert len(full) > JUDGED / 3 and not train & {tuple(row) for row in full}


def test_it_is_version_two_children_are_scaled_by_their_parents(world: KeptWorld) -> None:
    truth = truth_of(world)
    told = []
    for child, parent in world.parent_of.items():
        both = (truth[:, child] > 0) & (truth[:, parent] > 0)
        assert not ((truth[:, child] > 0) & (truth[:, parent] == 0)).any(), "never without it"
        if both.sum() >= 40:
            pair = torch.stack([truth[both, child], truth[both, parent]])
            told.append(float(torch.corrcoef(pair)[0, 1]))
    assert len(told) >= 20 and sum(told) / len(told) > 0.3, told


def test_its_configuration_is_the_published_one_at_full_width() -> None:
    about: dict[str, Any] = json.loads(json.dumps(configured(16_384, 768, 42).to_dict()))
    assert about["firing_probability"]["min_prob"] == 5e-4
    assert about["hierarchy"]["total_root_nodes"] == 128
    assert about["hierarchy"]["scale_children_by_parent"] is True


def reading(world: KeptWorld, rows: Tensor, level: float) -> SAE:
    """An SAE that fires where a direction is above a level, with the world's own offset."""
    sae = create(JumpReLUSpec(d_sae=len(rows), target_l0=4.0, initial_threshold=level), D)
    x_ND = torch.cat([sample.x_ND for sample in world.judged()])
    with torch.no_grad():
        sae.W_dec.copy_(torch.nn.functional.normalize(rows, dim=1))
        sae.W_enc.copy_(sae.W_dec.T)
        sae.b_dec.copy_(x_ND.mean(0))
    return sae.requires_grad_(False)


def judged(world: KeptWorld, rows: Tensor, level: float) -> dict[str, float]:
    sums = TruthSums(reading(world, rows, level), world.features_FD)
    for sample in world.judged():
        sums.add(*sample)
    return sums.metrics()


def test_oracle_doubled_and_random_rows_have_the_figures_they_must(world: KeptWorld) -> None:
    often = (truth_of(world) > 0).float().mean(0).topk(40).indices
    level = 0.5 * float(truth_of(world)[truth_of(world) > 0].mean())
    rows = world.features_FD[often]
    generator = torch.Generator().manual_seed(0)
    oracle = judged(world, rows, level)
    doubled = judged(world, torch.cat([rows, rows]), level)
    noise = judged(world, torch.randn(40, D, generator=generator), level)
    assert oracle["mcc"] == pytest.approx(1.0, abs=1e-5) and oracle["uniqueness"] == 1.0
    assert oracle["feature_f1"] > 0.8, oracle
    assert oracle["feature_f1"] == pytest.approx(oracle["latent_f1"], abs=1e-6)
    # Copies: the score over latents is blind to them, that over features is not.
    assert doubled["uniqueness"] == pytest.approx(0.5)
    assert doubled["latent_f1"] == pytest.approx(oracle["latent_f1"], abs=1e-6)
    assert doubled["feature_f1"] < 0.65 * oracle["feature_f1"]
    assert doubled["mcc"] < 0.8
    assert noise["mcc"] < 0.5 and noise["feature_f1"] < 0.3 and noise["latent_f1"] < 0.3


def test_a_latent_that_never_fires_counts_as_nothing(world: KeptWorld) -> None:
    often = (truth_of(world) > 0).float().mean(0).topk(40).indices
    level = 0.5 * float(truth_of(world)[truth_of(world) > 0].mean())
    sae = reading(world, world.features_FD[often], level)
    with torch.no_grad():
        sae.b_enc[:20] = -1e6
    sums = TruthSums(sae, world.features_FD)
    for sample in world.judged():
        sums.add(*sample)
    whole = judged(world, world.features_FD[often[20:]], level)
    assert sums.feature_f1() == pytest.approx(whole["feature_f1"] / 2, abs=1e-6)
    assert sums.latent_firing().f1 == pytest.approx(whole["latent_f1"] / 2, abs=1e-6)
