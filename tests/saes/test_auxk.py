"""AuxK: who is dead, what the loss is, where its gradient goes."""

from __future__ import annotations

import pytest
import torch

from monosemy.saes.auxk import DeadLatents, auxk_loss
from monosemy.saes.base import SAE, fired_counts
from monosemy.saes.codes import Codes
from monosemy.saes.registry import create
from monosemy.specs import TopKSpec

D, F, N = 16, 64, 200


def parts(scale: float = 1.0) -> tuple[SAE, torch.Tensor, torch.Tensor]:
    sae = create(TopKSpec(d_sae=F, k=4), D).double()
    sae.initialise(torch.Generator().manual_seed(0))
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(1)).double() + 0.3
    with torch.no_grad():
        sae.b_dec.copy_(x.mean(0) * scale)
        # Living latents beat the dead ones; those of the dead that fire do so weakly.
        sae.b_enc.copy_(torch.linspace(-0.5, 0.5, F) * scale)
    return sae, x * scale, torch.arange(20)


def test_dead_latents_are_counted_in_tokens() -> None:
    dead = DeadLatents(5, after_tokens=20)
    codes = Codes(torch.tensor([[0, 1]] * 8), torch.tensor([[1.0, 0.0]] * 8))
    dead.update(fired_counts(codes, 5), 8)
    assert dead.silent_for.tolist() == [0, 8, 8, 8, 8], "an entry of value 0 is no firing"
    values = torch.tensor([[2.0, 0.0]] * 10 + [[0.0, 0.5]])
    dead.update(fired_counts(Codes(torch.tensor([[3, 2]] * 11), values), 5), 11)
    assert dead.silent_for.tolist() == [11, 19, 0, 0, 19]
    assert not dead.mask().any()
    dead.update(torch.tensor([1.0, 0, 0, 1, 0]), 1)
    assert dead.silent_for.tolist() == [0, 20, 1, 0, 20]
    assert dead.indices().tolist() == [1, 4]


def test_the_loss_is_the_formula() -> None:
    sae, x, dead = parts()
    residual = x - sae(x)
    pre = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).relu()[:, :20]
    kept = torch.zeros_like(pre).scatter(1, pre.topk(3).indices, 1.0)
    error = (pre * kept) @ sae.W_dec[:20] - residual
    wanted = error.pow(2).sum(1).mean() / (residual - residual.mean(0)).pow(2).sum(1).mean()
    torch.testing.assert_close(auxk_loss(sae, x, residual, dead, 3), wanted)


def test_the_gradient_reaches_encoder_and_decoder_of_the_dead_only() -> None:
    sae, x, dead = parts()
    residual = (x - sae(x)).detach().requires_grad_()
    loss = auxk_loss(sae, x, residual, dead)
    loss.backward()
    for gradient in (sae.W_enc.grad.T, sae.W_dec.grad, sae.b_enc.grad[:, None]):  # type: ignore[union-attr, index]
        assert (gradient[20:] == 0).all()
        assert (gradient[:20].norm(dim=1) > 1e-4).sum() >= 15
    assert residual.grad is None, "the residual is a target: no gradient may flow into it"


def test_scaling_the_data_changes_neither_loss_nor_gradient_direction() -> None:
    losses, gradients = [], []
    for scale in (1.0, 1000.0, 1e-3):
        sae, x, dead = parts(scale)
        loss = auxk_loss(sae, x, x - sae(x), dead)
        loss.backward()
        losses.append(loss.item())
        gradients.append(sae.W_dec.grad)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-5, atol=1e-9)


def test_following_the_gradient_revives_the_dead() -> None:
    sae, x, dead = parts()
    residual = (x - sae(x)).detach()
    optimiser = torch.optim.Adam(sae.parameters(), lr=0.01)
    before = auxk_loss(sae, x, residual, dead).item()
    for _ in range(50):
        optimiser.zero_grad()
        auxk_loss(sae, x, residual, dead).backward()
        optimiser.step()
    assert auxk_loss(sae, x, residual, dead).item() < 0.6 * before


def test_a_perfect_reconstruction_is_no_nan() -> None:
    sae, x, dead = parts()
    loss = auxk_loss(sae, x, torch.zeros_like(x), dead)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.isfinite(sae.W_enc.grad).all()  # type: ignore[arg-type]


def test_in_bfloat16_it_is_nearly_the_same() -> None:
    sae, x, dead = parts()
    sae, x = sae.float(), x.float()
    residual = (x - sae(x)).detach()
    exact = auxk_loss(sae, x, residual, dead, 5)
    sae.product_dtype = torch.bfloat16
    half = auxk_loss(sae, x, residual, dead, 5)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=0.02, atol=0)
