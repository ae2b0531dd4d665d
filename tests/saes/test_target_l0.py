"""Who takes a target L0 ends within 5 % of it: in training, and at inference on fresh data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.saes.sparsity_control import threshold_shift
from monosemy.specs import (
    GatedSpec,
    JumpReLUSpec,
    L1CrosscoderSpec,
    ReLUSpec,
    SAESpec,
    TrainingSpec,
)
from monosemy.specs.architectures import ARCHITECTURES
from monosemy.training.schedule import learning_rate
from monosemy.training.trainer import SAETrainer

D_IN, D_SAE, ATOMS, BATCH = 64, 384, 192, 256
STEPS = 150
"""A short run: of the default text and batch, some 300,000 tokens' worth."""

_ATOMS = torch.nn.functional.normalize(
    torch.randn(ATOMS, D_IN, generator=torch.Generator().manual_seed(9)), dim=1
)


def world(tokens: int, seed: int) -> Tensor:
    """Sparse sums of directions whose frequencies fall as in text, and noise; norm sqrt(d)."""
    generator = torch.Generator().manual_seed(seed)
    share = 1 / torch.arange(1, ATOMS + 1).float() ** 0.7
    fires = torch.rand(tokens, ATOMS, generator=generator) < (share / share.sum() * 8).clamp_max(
        0.5
    )
    x = (fires * (1 + torch.rand(tokens, ATOMS, generator=generator))) @ _ATOMS
    x = x + 0.1 * torch.randn(tokens, D_IN, generator=generator)
    return x * (D_IN / x.pow(2).sum(1).mean()).sqrt()


def trained(spec: SAESpec, seed: int = 0, steps: int = STEPS) -> tuple[SAE, float]:
    """The SAE before its calibration, and the mean L0 of its last steps."""
    sae = create(spec, D_IN)
    sae.initialise(torch.Generator().manual_seed(seed))
    settings = TrainingSpec(tokens=steps * BATCH, batch_tokens=BATCH)
    trainer = SAETrainer(sae, settings)
    sae.begin(world(4096, seed))
    fired: list[float] = []
    for number in range(steps):
        batch = world(BATCH, 1000 * (seed + 1) + number)
        trainer.step(batch, number, learning_rate(number, steps, settings), steps)
        if number >= steps - 20:
            with torch.no_grad():
                fired.append(l0(sae, batch))
    return sae, sum(fired) / len(fired)


def l0(sae: SAE, x: Tensor) -> float:
    return float((sae.encode(x).values > 0).sum(1).float().mean())


def fvu(sae: SAE, x: Tensor) -> float:
    return float((sae(x) - x).pow(2).sum() / (x - x.mean(0)).pow(2).sum())


@pytest.mark.parametrize("target", [4.0, 16.0, 64.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_jumprelu_holds_its_target_in_training_and_on_fresh_data(target: float, seed: int) -> None:
    sae, at_the_end = trained(JumpReLUSpec(d_sae=D_SAE, target_l0=target), seed)
    assert at_the_end == pytest.approx(target, rel=0.05)
    fresh = world(8192, 77)
    with torch.no_grad():
        before = fvu(sae, fresh)
        sae.calibrate(world(16_384, 78))
        assert l0(sae, fresh) == pytest.approx(target, rel=0.03)
        assert fvu(sae, fresh) < before * 1.02, "what the last pass moves costs nothing"


@pytest.mark.xfail(strict=True, reason="too few pre-activations are positive: it ends near 50")
def test_jumprelu_holds_a_target_of_twice_the_width() -> None:
    """What is not mended: neither thresholds nor their last move can let through what is not
    positive.  At the width itself, and below, the target is held."""
    _, at_the_end = trained(JumpReLUSpec(d_sae=D_SAE, target_l0=2.0 * D_IN))
    assert at_the_end == pytest.approx(2.0 * D_IN, rel=0.05)


@pytest.mark.parametrize("target", [4.0, 16.0, 64.0])
@pytest.mark.parametrize("kind", [ReLUSpec, GatedSpec, L1CrosscoderSpec])
@pytest.mark.parametrize("start", [1e-3, 1.0])
def test_relu_and_gated_end_at_their_target_however_short_the_run(
    kind: type[ReLUSpec] | type[GatedSpec] | type[L1CrosscoderSpec], target: float, start: float
) -> None:
    sae, _ = trained(kind(d_sae=D_SAE, target_l0=target, sparsity_coefficient=start), steps=60)
    with torch.no_grad():
        sae.calibrate(world(16_384, 78))
        assert l0(sae, world(8192, 77)) == pytest.approx(target, rel=0.03)


def test_every_architecture_with_a_target_is_tested_here() -> None:
    with_target = {name for name, spec in ARCHITECTURES.items() if "target_l0" in spec.model_fields}
    by_layers = {"clt_jumprelu"}  # tests/saes/test_cross_layer.py
    assert with_target - by_layers == {"jumprelu", "relu", "gated", "crosscoder_l1"}


@pytest.mark.parametrize(
    "spec",
    [
        ReLUSpec(d_sae=D_SAE, target_l0=None),
        GatedSpec(d_sae=D_SAE, target_l0=None),
        JumpReLUSpec(d_sae=D_SAE, sparsity="step"),
        JumpReLUSpec(d_sae=D_SAE, sparsity="tanh"),
    ],
)
def test_without_a_target_nothing_is_moved(spec: SAESpec) -> None:
    sae, _ = trained(spec, steps=3)
    before = {name: value.clone() for name, value in sae.state_dict().items()}
    sae.calibrate(world(2048, 5))
    for name, value in sae.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_shift_is_against_the_error_and_bounded() -> None:
    shifts = [float(threshold_shift(torch.tensor(value), 8.0)) for value in (0.0, 4.0, 8.0, 1e6)]
    assert shifts[0] < shifts[1] < shifts[2] == 0.0 < shifts[3]
    assert -shifts[0] == pytest.approx(shifts[3])


@pytest.mark.parametrize("kind", [ReLUSpec, GatedSpec, JumpReLUSpec])
def test_a_target_above_what_can_fire_does_what_it_can(kind: type[JumpReLUSpec]) -> None:
    sae = create(kind(d_sae=16, target_l0=16.0), D_IN)
    sae.initialise(torch.Generator().manual_seed(0))
    x = world(512, 3)
    sae.begin(x)
    sae.calibrate(x)
    state = sae.state_dict()
    assert all(value.isfinite().all() for value in state.values())
    assert l0(sae, x) > 7
