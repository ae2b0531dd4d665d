"""One SAE's steps: against a plain reference, frozen, scale-free, and on planted directions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monosemy.errors import MonosemyError
from monosemy.saes.registry import create
from monosemy.specs import TopKSpec, TrainingSpec
from monosemy.training.schedule import learning_rate
from monosemy.training.trainer import SAETrainer
from tests.support.planted import planted

D, F, K = 10, 30, 4


def trainer(frozen: bool = False, double: bool = True, **spec: float) -> SAETrainer:
    settings = TopKSpec(d_sae=F, k=K, **{"dead_after_tokens": 60, "aux_k": 3, **spec})
    sae = create(settings, D)
    sae.initialise(torch.Generator().manual_seed(0))
    return SAETrainer(sae.double() if double else sae, TrainingSpec(), frozen_decoder=frozen)


def batches(count: int, n: int = 40) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, D, generator=generator).double() for _ in range(count)]


def test_steps_equal_those_of_plain_dense_code() -> None:
    ours = trainer()
    with torch.no_grad():
        ours.sae.b_enc[:8] = -1.0  # a few that hardly fire, so that AuxK has its say
    W_enc, b_enc = ours.sae.W_enc.detach().clone(), ours.sae.b_enc.detach().clone()
    W_dec, b_dec = ours.sae.W_dec.detach().clone(), ours.sae.b_dec.detach().clone()
    plain = [p.contiguous().requires_grad_() for p in (W_enc, b_enc, W_dec, b_dec)]
    W_enc, b_enc, W_dec, b_dec = plain
    adam = torch.optim.Adam(plain, betas=(0.9, 0.999), foreach=False, fused=False)
    silent = torch.zeros(F, dtype=torch.int64)
    dead = torch.zeros(0, dtype=torch.int64)
    used_auxk = 0
    for number, x in enumerate(batches(25)):
        ours.step(x, number, 0.01)
        if number % 10 == 0:
            dead = (silent >= 60).nonzero().squeeze(1)
        pre = ((x - b_dec) @ W_enc + b_enc).relu()
        kept = torch.zeros_like(pre).scatter(1, pre.topk(K).indices, 1.0)
        codes = pre * kept
        error = codes @ W_dec + b_dec - x
        loss = error.pow(2).sum() / (x - x.mean(0)).pow(2).sum()
        silent = torch.where((codes > 0).any(0), 0, silent + len(x))
        if len(dead):
            used_auxk += 1
            few = torch.zeros_like(pre[:, dead])
            few.scatter_(1, pre[:, dead].topk(min(3, len(dead))).indices, 1.0)
            residual = -error.detach()
            missed = ((pre[:, dead] * few) @ W_dec[dead] - residual).pow(2).sum()
            loss = loss + missed / (residual - residual.mean(0)).pow(2).sum() / 32
        adam.zero_grad()
        loss.backward()
        with torch.no_grad():
            W_dec.grad -= (W_dec.grad * W_dec).sum(1, keepdim=True) * W_dec  # type: ignore[operator]
            norm = sum(float(p.grad.pow(2).sum()) for p in plain) ** 0.5  # type: ignore[union-attr]
            for p in plain:
                p.grad *= min(1.0, 1.0 / (norm + 1e-6))
            adam.param_groups[0]["lr"] = 0.01
            adam.step()
            W_dec /= W_dec.norm(dim=1, keepdim=True)
    assert used_auxk >= 5
    for name, value in (("W_enc", W_enc), ("b_enc", b_enc), ("W_dec", W_dec), ("b_dec", b_dec)):
        torch.testing.assert_close(getattr(ours.sae, name), value, rtol=1e-6, atol=1e-9)


def test_a_frozen_decoder_never_moves_and_the_rest_does() -> None:
    frozen = trainer(frozen=True)
    before = {name: value.clone() for name, value in frozen.sae.state_dict().items()}
    for number, x in enumerate(batches(15)):
        frozen.step(x, number, 0.01)
    assert torch.equal(frozen.sae.W_dec, before["W_dec"])
    for name in ("W_enc", "b_enc", "b_dec"):
        assert not torch.equal(getattr(frozen.sae, name), before[name])
    assert len(frozen.parameters) == 3


def test_decoder_rows_stay_unit_vectors() -> None:
    t = trainer()
    for number, x in enumerate(batches(10)):
        t.step(x, number, 0.05)
    ones = torch.ones(F, dtype=torch.float64)
    torch.testing.assert_close(t.sae.W_dec.norm(dim=1), ones)


def test_the_loss_does_not_depend_on_the_scale_of_the_data() -> None:
    readings = []
    for scale in (1.0, 300.0):
        t = trainer(dead_after_tokens=1, aux_coefficient=0.5)
        x = batches(1)[0]
        for number in range(2):
            t.step(x * scale, number, 0.0)
            t.dead.silent_for += 100
            t.dead_indices = torch.arange(12)
        readings.append(t.readings())
    assert readings[0]["auxk"] > 0
    assert readings[1] == pytest.approx(readings[0], rel=1e-4)


def test_readings_are_means_and_divergence_is_told() -> None:
    t = trainer(double=False)
    for number, x in enumerate(batches(3)):
        t.step(x.float(), number, 1e-3)
    readings = t.readings()
    assert set(readings) == {"fvu", "l0", "loss", "dead_share"}
    assert 0 < readings["fvu"] < 2 and 0 < readings["l0"] <= K
    t.step(torch.full((5, D), float("nan")), 3, 1e-3)
    with pytest.raises(MonosemyError, match="diverged"):
        t.readings()


def test_state_restores_weights_moments_and_counters() -> None:
    first, second = trainer(double=False), trainer(double=False)
    data = [x.float() for x in batches(24)]
    for number, x in enumerate(data[:13]):
        first.step(x, number, 0.01)
    saved = {name: value.clone().contiguous() for name, value in first.state("a").items()}
    second.restore("a", saved)
    for number, x in enumerate(data[13:], start=13):
        first.step(x, number, 0.01)
        second.step(x, number, 0.01)
    for name, value in first.state("a").items():
        assert torch.equal(value, second.state("a")[name]), name


def test_the_schedule_warms_up_and_falls_to_zero() -> None:
    spec = TrainingSpec(learning_rate=2.0, warmup_steps=4, decay_fraction=0.5)
    rates = [learning_rate(step, 20, spec) for step in range(20)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4:11] == [2.0] * 7
    assert rates[10:] == pytest.approx([2.0 * (20 - step) / 10 for step in range(10, 20)])
    cosine = spec.model_copy(update={"decay": "cosine"})
    falling = [learning_rate(step, 20, cosine) for step in range(10, 20)]
    assert falling[0] == 2.0 and falling[5] == pytest.approx(1.0) and falling[9] < 0.06
    assert falling == sorted(falling, reverse=True)
    flat = TrainingSpec(learning_rate=2.0, warmup_steps=0, decay_fraction=0.0)
    assert {learning_rate(step, 20, flat) for step in range(20)} == {2.0}


def test_without_dead_latents_auxk_has_no_say() -> None:
    with_it, without = trainer(dead_after_tokens=10**9), trainer(aux_coefficient=0.0)
    for number, x in enumerate(batches(12)):
        with_it.step(x, number, 0.01)
        without.step(x, number, 0.01)
    assert "auxk" not in with_it.readings()
    for name, value in with_it.sae.state_dict().items():
        assert torch.equal(value, without.sae.state_dict()[name]), name


def test_planted_directions_are_found_and_random_ones_do_far_worse() -> None:
    source, _, directions = planted()
    trainers = []
    for frozen in (False, True):
        sae = create(TopKSpec(d_sae=48, k=3, dead_after_tokens=5000), 24)
        sae.initialise(torch.Generator().manual_seed(0))
        with torch.no_grad():
            sae.b_dec.copy_(source.acts.mean(0))
        trainers.append(SAETrainer(sae, TrainingSpec(), frozen_decoder=frozen))
    generator = torch.Generator().manual_seed(2)
    for number in range(1500):
        x = source.acts[torch.randint(0, len(source.acts), (256,), generator=generator)]
        for t in trainers:
            t.step(x, number, 3e-3 * min(1.0, (1500 - number) / 500))
    learned, frozen_twin = trainers
    cosine = (directions @ learned.sae.W_dec.T).amax(1)
    at_random = (directions @ frozen_twin.sae.W_dec.T).amax(1)
    assert cosine.mean() > 0.95 > 0.7 > at_random.mean()
    assert learned.readings()["fvu"] < 0.1
    assert frozen_twin.readings()["fvu"] > 3 * learned.readings()["fvu"]
