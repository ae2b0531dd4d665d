"""The Gated SAE: its two paths, what the gate's loss may move, and what it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monosemy.saes.base import StepInfo
from monosemy.saes.gated import GatedSAE
from monosemy.specs import GatedSpec
from tests.support.sparse_truth import trained

NONE = torch.zeros(0, dtype=torch.int64)


def some_sae() -> GatedSAE:
    sae = GatedSAE(GatedSpec(d_sae=40, target_l0=None), 12).double()
    generator = torch.Generator().manual_seed(0)
    sae.initialise(generator)
    with torch.no_grad():
        for bias in (sae.b_gate, sae.b_mag, sae.r_mag, sae.b_dec):
            bias.copy_(0.4 * torch.randn(bias.shape, generator=generator))
    return sae


def activations(n: int = 60) -> Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def formula(sae: GatedSAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Gate pre-activations and codes, as the paper's section 3.2 writes them."""
    product = (x - sae.b_dec) @ sae.W_enc
    gate = product + sae.b_gate
    return gate, (gate > 0) * (product * sae.r_mag.exp() + sae.b_mag).relu()


def test_both_paths_are_the_formula() -> None:
    sae, x = some_sae(), activations()
    _, codes = formula(sae, x)
    torch.testing.assert_close(sae.encode(x).dense(40), codes)
    result = sae.training_pass(x, x, StepInfo(0, 10, NONE))
    torch.testing.assert_close(result.reconstruction, codes @ sae.W_dec + sae.b_dec)
    gate, _ = formula(sae, x)
    assert ((gate > 0) & (codes == 0)).any(), "the example has gates open on no magnitude"


def test_the_gate_learns_through_a_decoder_it_does_not_move() -> None:
    sae, x = some_sae(), activations()
    term = sae.training_pass(x, x, StepInfo(0, 10, NONE)).terms["gate"]
    gate, _ = formula(sae, x)
    fixed, bias = sae.W_dec.detach(), sae.b_dec.detach()
    wanted = (gate.relu() @ fixed + bias - x).pow(2).sum() / (x - x.mean(0)).pow(2).sum()
    torch.testing.assert_close(term, wanted)
    reached = ("W_enc", "b_gate", "b_dec")  # b_dec by what the encoder subtracts, only
    inputs = [getattr(sae, name) for name in reached]
    ours = torch.autograd.grad(term, inputs, retain_graph=True)
    for mine, theirs in zip(ours, torch.autograd.grad(wanted, inputs), strict=True):
        torch.testing.assert_close(mine, theirs)
        assert mine.abs().max() > 0
    others = [sae.W_dec, sae.r_mag, sae.b_mag]
    assert torch.autograd.grad(term, others, allow_unused=True) == (None, None, None)


def test_the_penalty_moves_the_gate_alone() -> None:
    sae, x = some_sae(), activations()
    penalty = sae.training_pass(x, x, StepInfo(0, 10, NONE)).terms["sparsity"]
    others = [sae.W_dec, sae.r_mag, sae.b_mag]
    (moved, *rest) = torch.autograd.grad(penalty, [sae.b_gate, *others], allow_unused=True)
    assert (moved >= 0).all() and moved.max() > 0 and rest == [None, None, None]


def test_the_reconstruction_moves_magnitudes_but_no_gate_bias() -> None:
    sae, x = some_sae(), activations()
    out = sae.training_pass(x, x, StepInfo(0, 10, NONE)).reconstruction
    loss = (out - x).pow(2).sum()
    gate, mag = torch.autograd.grad(loss, [sae.b_gate, sae.b_mag], allow_unused=True)
    assert gate is None and mag.abs().max() > 0


def test_scaling_data_and_biases_leaves_the_terms() -> None:
    x, small, large = activations(), some_sae(), some_sae()
    large.rescale(1 / 50.0, 1 / 50.0)
    first = small.training_pass(x, x, StepInfo(0, 10, NONE))
    second = large.training_pass(x * 50, x * 50, StepInfo(0, 10, NONE))
    torch.testing.assert_close(second.reconstruction, first.reconstruction * 50)
    for name, value in first.terms.items():
        torch.testing.assert_close(second.terms[name], value, rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="transcodes"):
        large.rescale(2.0, 3.0)


def test_it_learns_planted_features_better_than_a_frozen_decoder() -> None:
    run = trained("gated", steps=500, target_l0=4.0)
    twin = trained("gated", steps=500, target_l0=4.0, frozen=True)
    for each in (run, twin):  # else it would compare different sparsities
        assert each.mean_l0() == pytest.approx(4.0, rel=0.1)
    assert run.mean_fvu() < 0.6 * twin.mean_fvu()
