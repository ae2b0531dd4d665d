"""The TopK SAE as others use it."""

from __future__ import annotations

import pytest
import torch

from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import TopKSpec


def random_sae(d_sae: int = 64, k: int = 4, d_in: int = 16) -> SAE:
    sae = create(TopKSpec(d_sae=d_sae, k=k), d_in)
    sae.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        sae.b_dec.copy_(torch.randn(d_in, generator=torch.Generator().manual_seed(1)))
        sae.b_enc.copy_(torch.randn(d_sae, generator=torch.Generator().manual_seed(2)) * 0.1)
    return sae


def activations(n: int = 30, d_in: int = 16) -> torch.Tensor:
    return torch.randn(n, d_in, generator=torch.Generator().manual_seed(3))


def test_encode_is_the_formula() -> None:
    sae, x = random_sae(), activations()
    pre = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).relu()
    kept = torch.zeros_like(pre).scatter(1, pre.topk(4).indices, 1.0)
    codes = sae.encode(x)
    torch.testing.assert_close(codes.dense(64), pre * kept)
    torch.testing.assert_close(sae.decode(codes), (pre * kept) @ sae.W_dec + sae.b_dec)
    torch.testing.assert_close(sae(x), sae.decode(codes))
    assert (codes.l0() == 4).all()


@pytest.mark.parametrize("budget", [1, 9, 64])
def test_budget_is_another_k(budget: int) -> None:
    codes = random_sae().encode(activations(), budget=budget)
    assert codes.indices.shape == (30, budget)
    assert (codes.values >= 0).all()


@pytest.mark.parametrize("budget", [0, 65, -1])
def test_an_impossible_budget_is_refused(budget: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 64"):
        random_sae().encode(activations(), budget=budget)


def test_a_larger_budget_reconstructs_better() -> None:
    sae, x = random_sae(d_sae=16, k=2), activations(200)
    with torch.no_grad():  # an orthonormal dictionary: each latent explains its own share
        sae.W_dec.copy_(torch.linalg.qr(sae.W_dec)[0])
        sae.W_enc.copy_(sae.W_dec.T)
        sae.b_enc.zero_()
        errors = [float((sae.decode(sae.encode(x, k)) - x).pow(2).sum()) for k in (1, 2, 4, 16)]
    assert errors[0] > errors[1] > errors[2] > errors[3]


def test_negative_pre_activations_are_not_codes() -> None:
    sae = random_sae()
    with torch.no_grad():
        sae.b_enc.fill_(-100.0)
    codes = sae.encode(activations())
    assert (codes.values == 0).all() and (codes.l0() == 0).all()
    torch.testing.assert_close(sae(activations()), sae.b_dec.expand(30, -1))


def test_initialise_gives_unit_rows_and_a_tied_encoder() -> None:
    sae = create(TopKSpec(d_sae=50, k=2), 8)
    sae.initialise(torch.Generator().manual_seed(4))
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(50))
    assert torch.equal(sae.W_enc, sae.W_dec.T)


def test_rescale_is_exact() -> None:
    sae, x = random_sae(), activations()
    scaled = sae(x * 8.0)
    sae.rescale(8.0, 8.0)
    torch.testing.assert_close(sae(x) * 8.0, scaled)


def test_no_tokens_are_no_codes() -> None:
    sae = random_sae()
    codes = sae.encode(torch.zeros(0, 16))
    assert codes.indices.shape == (0, 4)
    assert sae.decode(codes).shape == (0, 16)


def test_the_projected_gradient_has_no_part_along_its_row() -> None:
    sae = random_sae()
    sae.project_decoder_gradient()  # without a gradient there is nothing to do
    sae(activations()).pow(3).sum().backward()
    given = sae.W_dec.grad.clone()  # type: ignore[union-attr]
    along = (given * sae.W_dec).sum(1, keepdim=True)
    assert along.abs().max() > 1
    sae.project_decoder_gradient()
    torch.testing.assert_close(sae.W_dec.grad, (given - along * sae.W_dec).detach())
    assert (sae.W_dec.grad * sae.W_dec).sum(1).abs().max() < 1e-5 * along.abs().max()  # type: ignore[operator]
