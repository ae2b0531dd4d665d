"""The superposition toy: its laws at a small size, and what SAEs find in it once it is frozen."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from monosemy.evals.synthetic.superposition import (
    SuperpositionToy,
    exponent,
    firing_rates,
    recovery,
)
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import TrainingSpec
from monosemy.specs.architectures import MatchingPursuitSpec, SAESpec, TopKSpec
from monosemy.training.schedule import learning_rate
from monosemy.training.trainer import SAETrainer


def toy_of(n: int, width: int, steps: int, **more: Any) -> SuperpositionToy:
    toy = SuperpositionToy(n, width, **more)
    toy.train(steps)
    return toy


def test_rates_are_a_power_law_with_the_sum_asked_for() -> None:
    rates = firing_rates(100, 1.5, 0.8)
    assert float(rates.sum()) == pytest.approx(0.8, rel=1e-5)
    assert float(rates[0] / rates[8]) == pytest.approx(9**1.5, rel=1e-5)
    with pytest.raises(ValueError, match="rate"):
        firing_rates(100, 2.0, 3.0)
    with pytest.raises(ValueError, match="decay"):
        SuperpositionToy(10, 2, decay=-2)


def test_inputs_fire_as_often_and_are_as_large_as_they_should() -> None:
    toy = SuperpositionToy(20, 5, skew=1.0)
    h, x = toy.sample(50_000)
    torch.testing.assert_close(h, x @ toy.W_FM)
    densities = (x > 0).double().mean(0)
    error = (toy.rates_F * (1 - toy.rates_F) / len(x)).sqrt()
    assert ((densities - toy.rates_F).abs() < 5 * error).all()
    values = x[x > 0]
    assert float(values.max()) <= 2
    assert float(values.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(values.pow(2).mean()) == pytest.approx(4 / 3, abs=0.04)


def test_the_loss_of_a_toy_that_says_nothing_is_the_input() -> None:
    toy = SuperpositionToy(50, 5, skew=1.0)
    toy.W_FM, toy.b_F = torch.zeros_like(toy.W_FM), -torch.ones(50)
    assert toy.loss() == pytest.approx(4 / 3, rel=0.02)  # sum p_i <v^2>
    assert toy.tail() == pytest.approx(4 / 3, rel=1e-5) and toy.overlap() == 0.0


def test_decay_moves_rows_the_way_it_says() -> None:
    lengths = torch.tensor([0.2, 1.0, 3.0])
    for decay, wanted in ((0.5, lengths * 0.95), (-0.5, lengths + 0.05 * (1 - lengths))):
        toy = SuperpositionToy(3, 4, decay=decay)
        toy.W_FM = torch.eye(3, 4) * lengths[:, None]
        toy.decay_rows(0.1)
        torch.testing.assert_close(toy.W_FM, torch.eye(3, 4) * wanted[:, None])


def test_overlap_and_exponent_by_hand() -> None:
    toy = SuperpositionToy(4, 2)
    toy.W_FM = torch.tensor([[2.0, 0], [3, 3], [0, 1], [0.1, 0.1]])
    assert toy.represented.tolist() == [True, True, True, False]
    assert toy.overlap() == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert exponent([2, 4, 8], [8.0, 2.0, 0.5]) == pytest.approx(2.0)


def test_a_small_toy_shows_both_regimes() -> None:
    """The laws below, at a size that takes seconds."""
    widths = [4, 8, 16]
    toys = [toy_of(64, width, 800, skew=1.0, decay=-1.0) for width in widths]
    assert all(float(toy.represented.float().mean()) > 0.95 for toy in toys)
    assert 0.8 < exponent(widths, [toy.loss() for toy in toys]) < 1.3
    few, some, every = (
        float(toy_of(64, 8, 400, skew=2.0, decay=decay).represented.float().mean())
        for decay in (1.0, 0.1, -1.0)
    )
    assert 8 / 64 <= few < some < every


@pytest.mark.campaign
def test_in_strong_superposition_the_loss_falls_as_one_over_the_width() -> None:
    widths = [8, 16, 32]
    toys = [toy_of(256, width, 4000, skew=1.0, decay=-1.0) for width in widths]
    for width, toy in zip(widths, toys, strict=True):
        assert float(toy.represented.float().mean()) > 0.95
        assert 1 < width * toy.overlap() < 2
    assert 0.85 < exponent(widths, [toy.loss() for toy in toys]) < 1.3


@pytest.mark.campaign
def test_in_weak_superposition_the_loss_is_what_was_given_up() -> None:
    n, width = 256, 16
    weak = toy_of(n, width, 4000, skew=2.0, decay=0.1)
    share = float(weak.represented.float().mean())
    assert width / n <= share <= 3 * width / n
    assert 1 < weak.loss() / weak.tail() < 2.2
    shares = [
        float(toy_of(n, width, 1000, skew=2.0, decay=decay).represented.float().mean())
        for decay in (1.0, -1.0)
    ]
    assert shares[0] < share < shares[1], (shares, share)


SAES: list[SAESpec] = [
    TopKSpec(d_sae=64, k=2, k_start=4, dead_after_tokens=20_000),
    MatchingPursuitSpec(d_sae=64, k=2, dead_after_tokens=20_000),
]


def found_by(spec: SAESpec, toy: SuperpositionToy, steps: int = 1000) -> SAE:
    sae = create(spec, toy.W_FM.shape[1])
    sae.initialise(torch.Generator().manual_seed(7))
    sae.b_dec.requires_grad_(False)
    training = TrainingSpec(learning_rate=3e-3)
    trainer = SAETrainer(sae, training)
    for step in range(steps):
        rate = learning_rate(step, steps, training)
        trainer.step(toy.sample(512).x_NM, step, rate, steps)
    return sae.requires_grad_(False)


@pytest.mark.campaign
def test_saes_find_what_is_in_weak_superposition_and_less_of_what_is_in_strong() -> None:
    weak = toy_of(64, 16, 2000, skew=1.0, decay=1.0)
    strong = toy_of(64, 16, 2000, skew=1.0, decay=-1.0)
    assert 16 <= int(weak.represented.sum()) < 48 and strong.represented.all()
    for spec in SAES:
        easy = recovery(found_by(spec, weak), weak)
        hard = recovery(found_by(spec, strong), strong)
        untrained = recovery(found_by(spec, weak, 0), weak)
        name = spec.architecture
        assert easy.represented_mcc > 0.95, name
        assert hard.represented_mcc < easy.represented_mcc - 0.05, name
        assert untrained.represented_mcc < 0.7, name
        # A linear read-out trained with the features is no worse than ours, which never saw them.
        assert hard.loss_ratio > 1 and untrained.loss_ratio > easy.loss_ratio > 0.95, name
        # Nothing else: features without a row worth the name are matched by chance at best.
        missing = easy.cosines_F[~weak.represented].mean()
        assert float(missing) < easy.represented_mcc - 0.3, name


def test_the_toys_own_decoder_as_an_sae_has_its_loss() -> None:
    toy = toy_of(32, 8, 500, skew=1.0, decay=-1.0)
    assert toy.represented.all()
    length = toy.W_FM.norm(dim=1)
    sae = create(TopKSpec(d_sae=32, k=32), 8).requires_grad_(False)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    # relu(h W^T + b) times the length of the row is the activation of the unit row.
    sae.W_dec.copy_((toy.W_FM / length[:, None])[order])
    sae.W_enc.copy_((toy.W_FM * length[:, None])[order].T)
    sae.b_enc.copy_((toy.b_F * length)[order])
    recovered = recovery(sae, toy)
    assert recovered.loss_ratio == pytest.approx(1.0, rel=1e-4)
    assert recovered.represented_mcc == pytest.approx(1.0, rel=1e-5)
    torch.testing.assert_close(recovered.cosines_F, torch.ones(32))
