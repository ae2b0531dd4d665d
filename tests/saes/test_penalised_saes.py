"""ReLU, Gated, JumpReLU: formulas, gradients by hand, a controller that gets where it should."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from monosemy.saes import penalised
from monosemy.saes.base import StepInfo
from monosemy.saes.jumprelu import _Jump, _Step
from monosemy.saes.registry import create
from monosemy.saes.sparsity_control import L0Controller
from monosemy.specs import GatedSpec, JumpReLUSpec, ReLUSpec, SAESpec, TrainingSpec
from monosemy.training.trainer import SAETrainer

D, F, N = 16, 64, 256
NOW = StepInfo(0, 10, torch.zeros(0, dtype=torch.int64))


def sae_of(spec: Any) -> Any:
    sae = create(spec, D).double()
    sae.initialise(torch.Generator().manual_seed(0))
    return sae


def planted(n: int, seed: int = 1) -> Tensor:
    """Sparse sums of 48 directions, about 3 at a time, of norm around sqrt(d)."""
    atoms = torch.randn(48, D, generator=torch.Generator().manual_seed(9))
    atoms = torch.nn.functional.normalize(atoms, dim=1)
    generator = torch.Generator().manual_seed(seed)
    firing = torch.rand(n, 48, generator=generator) < 3 / 48
    return (firing * (1 + torch.rand(n, 48, generator=generator))) @ atoms * 1.6


@pytest.mark.parametrize("penalty", ["l1", "tanh"])
def test_relu_is_the_formula(penalty: Any) -> None:
    spec = ReLUSpec(d_sae=F, target_l0=None, sparsity_coefficient=0.3, penalty=penalty)
    sae, x = sae_of(spec), planted(N).double()
    out = sae.training_pass(x, x, NOW)
    acts = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).relu()
    size = acts / (x - x.mean(0)).pow(2).sum(1).mean().sqrt()
    size = torch.tanh(4 * size) if penalty == "tanh" else size
    torch.testing.assert_close(out.terms["sparsity"], 0.3 * size.sum(1).mean())
    torch.testing.assert_close(out.reconstruction, acts @ sae.W_dec + sae.b_dec)
    assert float(out.l0) == pytest.approx(float((acts > 0).sum(1).double().mean()))
    with torch.no_grad():
        torch.testing.assert_close(sae.encode(x).dense(F), acts.detach())


def test_gated_is_the_formula_and_its_auxiliary_decoder_is_detached() -> None:
    sae, x = sae_of(GatedSpec(d_sae=F, target_l0=None, sparsity_coefficient=0.1)), planted(N)
    x = x.double()
    with torch.no_grad():
        for i, bias in enumerate((sae.b_gate, sae.b_mag, sae.r_mag)):
            bias.copy_(torch.randn(F, generator=torch.Generator().manual_seed(i)) * 0.3)
    out = sae.training_pass(x, x, NOW)
    product = (x - sae.b_dec) @ sae.W_enc
    gate = product + sae.b_gate
    codes = (gate > 0) * (product * sae.r_mag.exp() + sae.b_mag).relu()
    torch.testing.assert_close(out.reconstruction, codes @ sae.W_dec + sae.b_dec)
    variance = (x - x.mean(0)).pow(2).sum()
    by_gate = (gate.relu() @ sae.W_dec + sae.b_dec - x).pow(2).sum() / variance
    torch.testing.assert_close(out.terms["gate"], by_gate)
    out.terms["gate"].backward()
    assert sae.W_dec.grad is None, "the decoder learns nothing from the gate's reconstruction"
    assert sae.W_enc.grad.abs().sum() > 0 and sae.b_gate.grad.abs().sum() > 0
    with torch.no_grad():
        torch.testing.assert_close(sae.encode(x).dense(F), codes)


def test_jump_and_step_have_the_papers_gradients() -> None:
    pre = torch.tensor([[0.2, 0.46, 0.54, 2.0]], dtype=torch.float64, requires_grad=True)
    threshold = torch.full((4,), 0.5, dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    acts = _Jump.apply(pre, threshold, 0.1, False)
    assert acts.tolist() == [[0.0, 0.0, 0.54, 2.0]]
    (acts * weights).sum().backward()
    assert pre.grad is not None and threshold.grad is not None
    assert pre.grad.tolist() == [[0.0, 0.0, 3.0, 4.0]]
    # -(theta / bandwidth) inside the window of half a bandwidth on each side, 0 outside.
    assert threshold.grad.tolist() == pytest.approx([0.0, -5 * 2.0, -5 * 3.0, 0.0])
    threshold.grad = pre.grad = None
    steps = _Step.apply(pre, threshold, 0.1, False)
    assert steps.tolist() == [[0.0, 0.0, 1.0, 1.0]]
    (steps * weights).sum().backward()
    assert threshold.grad.tolist() == pytest.approx([0.0, -20.0, -30.0, 0.0])
    assert pre.grad is None or not pre.grad.any()


def test_straight_through_gives_pre_activations_the_opposite_of_the_thresholds_gradient() -> None:
    pre = torch.tensor([[0.2, 0.46, 0.54, 2.0]], dtype=torch.float64, requires_grad=True)
    threshold = torch.full((4,), 0.5, dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    (_Jump.apply(pre, threshold, 0.1, True) * weights).sum().backward()
    assert pre.grad is not None and threshold.grad is not None
    assert threshold.grad.tolist() == pytest.approx([0.0, -10.0, -15.0, 0.0])
    assert pre.grad[0].tolist() == pytest.approx([0.0, 10.0, 3.0 + 15.0, 4.0])
    threshold.grad = pre.grad = None
    (_Step.apply(pre, threshold, 0.1, True) * weights).sum().backward()
    assert pre.grad is not None and threshold.grad is not None
    assert pre.grad[0].tolist() == pytest.approx([0.0, 20.0, 30.0, 0.0])
    assert threshold.grad.tolist() == pytest.approx((-pre.grad[0]).tolist())


def test_the_step_gradient_is_that_of_the_expected_l0() -> None:
    """Its mean over many tokens is the slope of P(pre > threshold), which is what it estimates."""
    generator = torch.Generator().manual_seed(0)
    pre = torch.randn(400_000, 1, generator=generator).double()
    threshold = torch.tensor([0.7]).double().requires_grad_()
    _Step.apply(pre, threshold, 0.1, False).mean().backward()
    slope = -torch.exp(torch.tensor(-0.49 / 2)) / (2 * torch.pi) ** 0.5
    assert threshold.grad is not None
    assert float(threshold.grad) == pytest.approx(float(slope), rel=0.03)


@pytest.mark.parametrize("sparsity", ["target", "step", "tanh"])
def test_jumprelu_is_the_formula(sparsity: Any) -> None:
    spec = JumpReLUSpec(
        d_sae=F, target_l0=4, sparsity=sparsity, sparsity_coefficient=0.5, initial_threshold=0.3
    )
    sae, x = sae_of(spec), planted(N).double()
    out = sae.training_pass(x, x, NOW)
    pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
    acts = pre * (pre > 0.3)
    relative = (acts > 0).sum(1).double().mean() / 4
    size = torch.tanh(4 * acts / (x - x.mean(0)).pow(2).sum(1).mean().sqrt()).sum(1).mean() / 4
    wanted = {"target": (relative - 1) ** 2, "step": relative, "tanh": size}[sparsity]
    torch.testing.assert_close(out.terms["sparsity"], 0.5 * wanted, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        out.reconstruction, acts @ sae.W_dec + sae.b_dec, rtol=1e-6, atol=1e-6
    )
    with torch.no_grad():
        torch.testing.assert_close(sae.encode(x).dense(F), acts.detach(), rtol=1e-6, atol=1e-6)


def trained(spec: Any, steps: int = 1500) -> SAETrainer:
    sae = create(spec, D)
    sae.initialise(torch.Generator().manual_seed(0))
    trainer = SAETrainer(sae, TrainingSpec())
    for number in range(steps):
        trainer.step(planted(N, seed=100 + number % 64), number, 3e-3, steps)
    return trainer


@pytest.mark.parametrize("start", [1e-4, 1.0])
@pytest.mark.parametrize("kind", [ReLUSpec, GatedSpec])
def test_the_controller_reaches_its_l0_from_far_away(kind: Any, start: float) -> None:
    trainer = trained(kind(d_sae=F, target_l0=4.0, sparsity_coefficient=start))
    readings = trainer.readings()
    assert readings["l0"] == pytest.approx(4.0, rel=0.1)
    # The penalty shrinks what it keeps, which the gated path undoes.
    assert readings["fvu"] < (0.75 if kind is ReLUSpec else 0.35)


def test_jumprelu_reaches_its_target_l0() -> None:
    readings = trained(JumpReLUSpec(d_sae=F, target_l0=4.0)).readings()
    assert readings["l0"] == pytest.approx(4.0, rel=0.15)
    assert readings["fvu"] < 0.25


def test_a_fixed_weight_stays_fixed() -> None:
    control = L0Controller(None, 0.25)
    for l0 in (1.0, 500.0, 3.0):
        assert float(control.weight(torch.tensor(l0))) == pytest.approx(0.25)


@pytest.mark.parametrize(
    "spec",
    [
        ReLUSpec(d_sae=60, target_l0=4),
        ReLUSpec(d_sae=60, sparsity_coefficient=0.1, penalty="tanh"),
        GatedSpec(d_sae=60, target_l0=4),
        JumpReLUSpec(d_sae=60, target_l0=4, initial_threshold=0.4, bandwidth=0.5),
        JumpReLUSpec(d_sae=60, target_l0=4, initial_threshold=0.4, bandwidth=1.5),
        JumpReLUSpec(d_sae=60, target_l0=4, sparsity="tanh", pre_act_coefficient=0.1),
        JumpReLUSpec(d_sae=60, target_l0=4, sparsity="step", initial_threshold=0.1),
    ],
    ids=lambda spec: (
        f"{spec.architecture}-{getattr(spec, 'sparsity', getattr(spec, 'penalty', ''))}"
    ),
)
def test_a_pass_through_what_fires_is_the_pass_through_everything(
    spec: SAESpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(70, 16, generator=generator) + 0.5
    results = []
    for share in (0.0, 1.0):  # none may fire, so that all are taken; or all may
        monkeypatch.setattr(penalised, "DENSE_SHARE", share)
        sae = create(spec, 16)
        sae.initialise(torch.Generator().manual_seed(4))
        sae.begin(x)
        with torch.no_grad():
            for parameter in sae.parameters():
                noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5))
                parameter.add_(0.05 * noise)
        out = sae.training_pass(x, x, StepInfo(3, 10, torch.tensor([1, 7, 20])))
        ((out.reconstruction - x).pow(2).mean() + sum(out.terms.values())).backward()
        assert 0 < float(out.l0) < 60 and out.terms
        grads = {name: p.grad for name, p in sae.named_parameters()}
        results.append((out.reconstruction, out.fired_F, out.l0, out.terms, grads))
    pre = sae.pre_activations(x, sae.W_dec[:, 0] * 0, torch.tensor(0.0))  # type: ignore[operator]
    assert pre.entries is not None, "the last one went through what fires"
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)
