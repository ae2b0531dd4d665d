"""The JumpReLU SAE: gradients of a whole pass, dead latents, scale, and what it learns."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import pytest
import torch
from torch import Tensor

from monosemy.saes.base import StepInfo
from monosemy.saes.jumprelu import JumpReLUSAE
from monosemy.saes.penalised import typical_norm
from monosemy.specs import JumpReLUSpec
from tests.support.sparse_truth import trained

NONE = torch.zeros(0, dtype=torch.int64)
THRESHOLD, BANDWIDTH, TARGET = 0.6, 0.4, 5.0


def some_sae(**options: Any) -> JumpReLUSAE:
    options = {"initial_threshold": THRESHOLD, "bandwidth": BANDWIDTH, **options}
    sae = JumpReLUSAE(JumpReLUSpec(d_sae=40, target_l0=TARGET, **options), 12).double()
    sae.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        sae.b_enc.copy_(torch.linspace(-0.3, 0.3, 40))
    return sae


def activations(n: int = 80) -> Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def pre_activations(sae: JumpReLUSAE, x: Tensor) -> Tensor:
    return ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).detach()


def test_the_threshold_gradient_of_a_reconstruction_by_hand() -> None:
    """d loss / d log theta = theta * sum of -(theta / bandwidth) * window * d loss / d act."""
    sae, x = some_sae(), activations()
    out = sae.training_pass(x, x, StepInfo(0, 10, NONE)).reconstruction
    (got,) = torch.autograd.grad((out - x).pow(2).sum(), sae.log_threshold)
    pre = pre_activations(sae, x)
    d_act = 2 * (out - x).detach() @ sae.W_dec.T
    window = ((pre - sae.threshold).abs() < BANDWIDTH / 2).double()
    by_hand = sae.threshold * (-(sae.threshold / BANDWIDTH) * window * d_act).sum(0)
    torch.testing.assert_close(got, by_hand, rtol=1e-9, atol=1e-9)
    assert got.abs().max() > 0


def test_the_threshold_gradient_of_the_target_loss_by_hand() -> None:
    sae, x = some_sae(sparsity="target", sparsity_coefficient=0.5), activations()
    term = sae.training_pass(x, x, StepInfo(0, 10, NONE)).terms["sparsity"]
    (got,) = torch.autograd.grad(term, sae.log_threshold)
    pre, n = pre_activations(sae, x), len(x)
    relative = (pre > sae.threshold).sum().double() / n / TARGET
    window = ((pre - sae.threshold).abs() < BANDWIDTH / 2).double().sum(0)
    by_hand = 0.5 * 2 * (relative - 1) * sae.threshold * -(window / BANDWIDTH) / n / TARGET
    torch.testing.assert_close(got, by_hand, rtol=1e-9, atol=1e-12)
    assert relative > 1 and (got <= 0).all() and got.min() < 0, "too many fire: thresholds rise"


def test_the_jump_gradient_is_that_of_the_expected_activation() -> None:
    """d E[pre * (pre > theta)] / d theta = -theta * density(theta), for normal pre-activations."""
    sae = JumpReLUSAE(JumpReLUSpec(d_sae=2, bandwidth=0.1, initial_threshold=0.7), 2).double()
    with torch.no_grad():
        sae.W_enc.copy_(torch.eye(2))
        sae.W_dec.copy_(torch.eye(2))
    x = torch.randn(400_000, 2, generator=torch.Generator().manual_seed(0)).double()
    out = sae.training_pass(x, x, StepInfo(0, 1, NONE)).reconstruction
    (got,) = torch.autograd.grad(out.mean(0).sum(), sae.log_threshold)
    wanted = 0.7 * -0.7 * NormalDist().pdf(0.7)
    assert got.tolist() == pytest.approx([wanted, wanted], rel=0.03)


def test_dead_latents_are_lifted_and_others_left() -> None:
    dead = torch.tensor([2, 9])
    sae, x = some_sae(pre_act_coefficient=0.5, aux_coefficient=0.0), activations()
    term = sae.training_pass(x, x, StepInfo(0, 10, dead)).terms["pre_act"]
    below = (sae.threshold - pre_activations(sae, x))[:, dead].relu().sum(1).mean()
    torch.testing.assert_close(term.detach(), (0.5 * below / typical_norm(x)).detach())
    (got,) = torch.autograd.grad(term, sae.b_enc)
    alive = torch.ones(40, dtype=torch.bool)
    alive[dead] = False
    assert (got[dead] < 0).all() and not got[alive].any(), "descent raises the dead ones' bias"
    assert "pre_act" not in sae.training_pass(x, x, StepInfo(0, 10, NONE)).terms


@pytest.mark.parametrize("sparsity", ["target", "step", "tanh"])
def test_scaling_data_biases_and_thresholds_leaves_the_terms(sparsity: Any) -> None:
    x, dead = activations(), torch.tensor([2, 9])
    small, large = some_sae(sparsity=sparsity), some_sae(sparsity=sparsity)
    large.rescale(1 / 50.0, 1 / 50.0)
    first = small.training_pass(x, x, StepInfo(0, 10, dead))
    second = large.training_pass(x * 50, x * 50, StepInfo(0, 10, dead))
    assert set(first.terms) == {"auxk", "sparsity", "pre_act"}
    assert torch.equal(first.fired_F, second.fired_F)
    for name, value in first.terms.items():
        torch.testing.assert_close(second.terms[name], value, rtol=1e-5, atol=1e-7)


def test_a_budget_keeps_the_largest_above_their_thresholds() -> None:
    sae, x = some_sae(), activations()
    pre = pre_activations(sae, x)
    full = pre * (pre > sae.threshold)
    kept = torch.zeros_like(full).scatter(1, full.topk(3).indices, 1.0)
    torch.testing.assert_close(sae.encode(x, 3).dense(40), (full * kept).detach())


def test_it_learns_planted_features_better_than_a_frozen_decoder() -> None:
    wanted = {"steps": 700, "target_l0": 4.0, "initial_threshold": 1.0}
    run, twin = trained("jumprelu", **wanted), trained("jumprelu", frozen=True, **wanted)
    for each in (run, twin):  # else it would compare different sparsities
        assert each.mean_l0() == pytest.approx(4.0, rel=0.15)
    assert run.mean_fvu() < 0.6 * twin.mean_fvu()
