"""Sparse products against dense autograd."""

from __future__ import annotations

import pytest
import torch

from monosemy.saes.codes import Codes
from monosemy.saes.registry import create
from monosemy.saes.selection import top_k, top_latents
from monosemy.saes.sparse_ops import row_products, scatter_rows, selected_values, weighted_rows
from monosemy.specs import TopKSpec

N, K, F, D = 24, 5, 40, 12


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def some_indices() -> torch.Tensor:
    """Distinct within a row; latents 30 and up are never used."""
    generator = torch.Generator().manual_seed(1)
    return torch.stack([torch.randperm(30, generator=generator)[:K] for _ in range(N)])


def test_weighted_rows_has_the_value_and_gradient_of_the_dense_product() -> None:
    indices, upstream = some_indices(), numbers(N, D, seed=4)
    weights = numbers(N, K, seed=2).requires_grad_()
    rows = numbers(F, D, seed=3).requires_grad_()
    sparse = weighted_rows(indices, weights, rows)
    gradients = torch.autograd.grad(sparse, (weights, rows), upstream)
    dense = Codes(indices, weights).dense(F) @ rows
    wanted = torch.autograd.grad(dense, (weights, rows), upstream)
    torch.testing.assert_close(sparse, dense)
    torch.testing.assert_close(gradients, wanted)
    assert (gradients[1][30:] == 0).all() and (gradients[1][:30] != 0).any()


def test_selected_values_has_the_gradient_of_the_dense_encoder() -> None:
    x = numbers(N, D, seed=5).requires_grad_()
    W_enc = numbers(F, D, seed=6).T.requires_grad_()
    b_enc = numbers(F, seed=7).requires_grad_()
    indices, upstream = some_indices(), numbers(N, K, seed=8)
    dense = (x @ W_enc + b_enc).relu().gather(1, indices)
    assert (dense == 0).any() and (dense > 0).any()
    sparse = selected_values(x, W_enc, b_enc, indices, dense.detach())
    torch.testing.assert_close(sparse, dense)
    gradients = torch.autograd.grad(sparse, (x, W_enc, b_enc), upstream)
    torch.testing.assert_close(gradients, torch.autograd.grad(dense, (x, W_enc, b_enc), upstream))


def test_the_gradient_of_a_whole_topk_sae_is_that_of_dense_autograd() -> None:
    sae = create(TopKSpec(d_sae=F, k=K), D).double()
    sae.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        sae.b_enc.copy_(0.1 * numbers(F, seed=9))
        sae.b_dec.copy_(0.1 * numbers(D, seed=10))
    x = numbers(N, D, seed=11).requires_grad_()
    wanted_of = (x, sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec)
    sparse = (sae(x) - x).pow(2).sum()
    gradients = torch.autograd.grad(sparse, wanted_of)
    pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
    kept = torch.zeros_like(pre).scatter(1, pre.topk(K).indices, 1.0)
    dense = ((pre.relu() * kept) @ sae.W_dec + sae.b_dec - x).pow(2).sum()
    torch.testing.assert_close(sparse, dense)
    torch.testing.assert_close(gradients, torch.autograd.grad(dense, wanted_of))


def test_scatter_rows_adds_up_what_repeats() -> None:
    indices = torch.tensor([[3, 0], [3, 1], [0, 3]])
    weights = torch.tensor([[1.0, 2.0], [10.0, 3.0], [4.0, 100.0]])
    x = torch.eye(3)
    out = scatter_rows(indices, weights, x, 5)
    wanted = [[2.0, 0, 4], [0, 3, 0], [0, 0, 0], [1, 10, 100], [0, 0, 0]]
    assert out.tolist() == wanted


def test_row_products() -> None:
    indices, x, rows = some_indices(), numbers(N, D, seed=1), numbers(F, D, seed=2)
    torch.testing.assert_close(row_products(indices, x, rows), (x @ rows.T).gather(1, indices))


@pytest.mark.parametrize(("width", "k"), [(4096, 32), (4096, 1), (1000, 7), (64, 64), (17, 3)])
def test_top_k_finds_the_largest(width: int, k: int) -> None:
    pre = numbers(50, width, seed=width)
    values, indices = top_k(pre, k)
    assert torch.equal(pre.gather(1, indices), values)
    assert torch.equal(values.sort(1).values, pre.topk(k).values.sort(1).values)
    assert all(len(set(row)) == k for row in indices.tolist())


def test_top_k_with_ties_takes_no_entry_twice() -> None:
    pre = torch.zeros(4, 4096)
    pre[:, 7] = 1.0
    values, indices = top_k(pre, 16)
    assert torch.equal(values.sum(1), torch.ones(4))
    assert all(len(set(row)) == 16 for row in indices.tolist())


def test_top_latents_does_not_depend_on_how_rows_are_blocked() -> None:
    x, W, b = numbers(300, 8, seed=1).float(), numbers(8, 32768, seed=2).float(), torch.zeros(32768)
    indices, values = top_latents(x, W, b, 4, torch.float32)
    wanted, at = (x @ W).topk(4)
    assert torch.equal(indices.sort(1).values, at.sort(1).values)
    torch.testing.assert_close(values.sort(1).values, wanted.sort(1).values)
    half = top_latents(x, W, b, 4, torch.bfloat16)
    assert half[1].dtype == torch.float32
    torch.testing.assert_close(half[1].amax(1), wanted[:, 0], rtol=0.02, atol=0)
