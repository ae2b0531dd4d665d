"""Dead latents that start anew."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from monosemy.saes.registry import create
from monosemy.specs import ARCHITECTURES, BatchTopKSpec, TopKSpec, TrainingSpec, TrainRun
from monosemy.specs.trainings import SweepRun
from monosemy.training.resampling import is_due, resample
from monosemy.training.trainer import SAETrainer

D, F = 12, 20
DEAD = torch.tensor([2, 7, 19])
PLAIN = ("topk", "batchtopk", "matryoshka", "jumprelu", "relu", "gated", "matching_pursuit")


def trainer(architecture: str = "topk", **training: Any) -> SAETrainer:
    kind = ARCHITECTURES[architecture]
    budget = {"k": 3} if "k" in kind.model_fields else {"target_l0": 3.0}
    sae = create(kind(d_sae=F, dead_after_tokens=200, **budget), D)
    sae.initialise(torch.Generator().manual_seed(0))
    return SAETrainer(sae, TrainingSpec(**training))


def batch(number: int, n: int = 50) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(number))


def stepped(trained: SAETrainer, numbers: range, total: int = 40) -> SAETrainer:
    for number in numbers:
        trained.step(batch(number), number, 1e-3, total)
    return trained


@pytest.mark.parametrize(
    ("step", "due"), [(8, False), (9, True), (10, False), (79, True), (89, False), (99, False)]
)
def test_it_is_due_every_so_many_steps_until_its_share(step: int, due: bool) -> None:
    assert is_due(TrainingSpec(resample_every=10), step, 100) == due
    assert not is_due(TrainingSpec(), step, 100)


@pytest.mark.parametrize("architecture", PLAIN)
@pytest.mark.parametrize("optimiser", ["adam", "signum", "muon"])
def test_only_the_dead_start_anew_and_the_optimiser_forgets_them(
    architecture: str, optimiser: Any
) -> None:
    trained = stepped(trainer(architecture, optimiser=optimiser), range(3))
    sae = trained.sae
    before = {name: value.clone() for name, value in sae.state_dict().items()}
    moments = {
        (id(parameter), name): value.clone()
        for parameter, state in trained.optimiser.state.items()
        for name, value in state.items()
    }
    residual = torch.zeros(50, D)
    residual[[4, 8, 30]] = torch.randn(3, D, generator=torch.Generator().manual_seed(9))
    started = resample(sae, trained.optimiser, DEAD, batch(0), residual, seed=1)
    assert torch.equal(started, DEAD)
    living = torch.ones(F, dtype=torch.bool).index_fill(0, DEAD, False)
    rows = sae.W_dec.detach()[DEAD]
    directions = torch.nn.functional.normalize(residual[[4, 8, 30]], dim=1)
    torch.testing.assert_close((rows @ directions.T).amax(1), torch.ones(3), msg="each has one")
    assert len((rows @ directions.T).argmax(1).unique()) == 3, "drawn without replacement"
    torch.testing.assert_close(sae.W_dec[living], before["W_dec"][living], rtol=0, atol=0)
    torch.testing.assert_close(sae.b_dec, before["b_dec"], rtol=0, atol=0)
    if hasattr(sae, "W_enc"):
        columns, length = sae.W_enc.detach()[:, DEAD], before["W_enc"][:, living].norm(dim=0).mean()
        torch.testing.assert_close(columns, rows.T * length)
        torch.testing.assert_close(sae.W_enc[:, living], before["W_enc"][:, living])
    if hasattr(sae, "log_threshold"):
        mean = before["log_threshold"][living].mean()
        torch.testing.assert_close(sae.log_threshold[DEAD].detach(), mean.expand(3))
    seen = 0
    for parameter, axis in sae.latent_parameters():
        for name, value in trained.optimiser.state.get(parameter, {}).items():
            if value.shape == parameter.shape:
                seen += 1
                assert not value.index_select(axis, DEAD).any(), name
                index = living.nonzero()[:, 0]
                kept = moments[id(parameter), name].index_select(axis, index)
                assert torch.equal(value.index_select(axis, index), kept)
    assert seen >= len(sae.latent_parameters())


def test_where_nothing_is_missed_or_all_are_dead_nothing_starts() -> None:
    trained = trainer()
    before = trained.sae.W_dec.detach().clone()
    everything = torch.arange(F)
    missed, nothing = batch(1), torch.zeros(50, D)
    for dead, residual in ((DEAD, nothing), (everything, missed), (DEAD[:0], missed)):
        assert not len(resample(trained.sae, trained.optimiser, dead, batch(0), residual, 0))
    assert torch.equal(trained.sae.W_dec, before)
    few = torch.zeros(50, D)
    few[3] = 1.0
    assert len(resample(trained.sae, trained.optimiser, DEAD, batch(0), few, 0)) == 1


def test_a_transcoder_reads_the_token_and_writes_what_is_missed() -> None:
    sae = create(TopKSpec(d_sae=F, k=3), D, 7)
    sae.initialise(torch.Generator().manual_seed(0))
    trained = SAETrainer(sae, TrainingSpec())
    residual, x = torch.zeros(50, 7), batch(0)
    residual[11] = torch.arange(7.0)
    resample(sae, trained.optimiser, DEAD[:1], x, residual, 0)
    wanted = torch.nn.functional.normalize(torch.arange(7.0), dim=0)
    torch.testing.assert_close(sae.W_dec.detach()[2], wanted)
    read = torch.nn.functional.normalize(sae.W_enc.detach()[:, 2], dim=0)
    torch.testing.assert_close(read, torch.nn.functional.normalize(x[11], dim=0))


def test_it_revives_latents_that_nothing_else_revives() -> None:
    def dead_share(**training: Any) -> float:
        spec = BatchTopKSpec(d_sae=64, k=2, dead_after_tokens=2000, aux_coefficient=0)
        sae = create(spec, 16)
        sae.initialise(torch.Generator().manual_seed(3))
        with torch.no_grad():
            sae.b_enc[:40] = -5.0
        trained = SAETrainer(sae, TrainingSpec(**training))
        data = torch.randn(40_000, 16, generator=torch.Generator().manual_seed(4))
        for number in range(150):
            start = number * 256 % 39_000
            trained.step(data[start : start + 256], number, 1e-3, 150)
        return trained.readings()["dead_share"]

    assert dead_share() > 0.5
    assert dead_share(resample_every=20) < 0.1


def test_a_resumed_training_restarts_the_same_latents() -> None:
    def new() -> SAETrainer:
        fresh = trainer(resample_every=7)
        with torch.no_grad():
            fresh.sae.b_enc[:9] = -9.0
        return fresh

    whole = stepped(new(), range(30))
    first = stepped(new(), range(17))
    second = new()
    second.restore("sae", first.state("sae"))
    stepped(second, range(17, 30))
    untouched = stepped(trainer(), range(0))
    for name, value in whole.sae.state_dict().items():
        assert torch.equal(value, second.sae.state_dict()[name]), name
    assert not torch.equal(whole.sae.W_dec[:9], untouched.sae.W_dec[:9])


def test_a_frozen_decoder_keeps_its_dead() -> None:
    sae = create(TopKSpec(d_sae=F, k=3, dead_after_tokens=60), D)
    sae.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        sae.b_enc[:9] = -9.0
    before = sae.W_dec.detach().clone()
    stepped(SAETrainer(sae, TrainingSpec(resample_every=5), frozen_decoder=True), range(20))
    assert torch.equal(sae.W_dec, before)


def test_what_cannot_be_resampled_is_refused() -> None:
    places = [f"blocks.{layer}.mlp.hook_in" for layer in range(2)]
    clt = {"architecture": "clt", "d_sae": 8, "k": 2}
    written = [f"blocks.{layer}.hook_mlp_out" for layer in range(2)]
    training: dict[str, Any] = {"resample_every": 10}
    with pytest.raises(ValidationError, match="not for cross-layer transcoders"):
        TrainRun(sae=clt, reads=places, writes=written, training=training)  # type: ignore[arg-type]
    both = {**training, "devices": 2}
    with pytest.raises(ValidationError, match="one device"):
        TrainRun(training=both)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="one device"):
        SweepRun(training=both)  # type: ignore[arg-type]
    assert "resample" not in TrainRun().model_dump_json(), "older specs' dumps stay what they were"
