"""Candidates by a product in bfloat16, values exact: the codes of the float32 product."""

from __future__ import annotations

import torch

from monosemy.saes.selection import exact_top_latents, top_latents
from monosemy.saes.topk import TopKSAE
from monosemy.specs import TopKSpec


def _problem(latents: int, k: int) -> TopKSAE:
    generator = torch.Generator().manual_seed(0)
    sae = TopKSAE(TopKSpec(d_sae=latents, k=k), 64)
    sae.initialise(generator)
    with torch.no_grad():
        sae.b_enc.copy_(0.1 * torch.randn(latents, generator=generator))
    return sae


def _inputs(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 12, generator=generator) @ torch.randn(12, 64, generator=generator)


@torch.no_grad()
def test_codes_are_those_of_the_exact_product() -> None:
    sae, x_ND = _problem(512, 16), _inputs(300)
    z_ND = sae.centre(x_ND)
    exact = top_latents(z_ND, sae.W_enc, sae.b_enc, 16, torch.float32)
    rough = top_latents(z_ND, sae.W_enc, sae.b_enc, 16, torch.bfloat16)
    largest = exact_top_latents(z_ND, sae.W_enc, sae.b_enc, 16, torch.bfloat16)

    def dense(codes: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.zeros(len(x_ND), 512).scatter_(1, codes[0], codes[1])

    assert torch.allclose(dense(largest), dense(exact), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(dense(rough), dense(exact), rtol=1e-3, atol=1e-3)  # so it matters


@torch.no_grad()
def test_a_dictionary_smaller_than_the_candidates_is_taken_whole() -> None:
    sae, x_ND = _problem(20, 16), _inputs(5)
    indices, values = exact_top_latents(x_ND, sae.W_enc, sae.b_enc, 16, torch.bfloat16)
    best, _ = top_latents(x_ND, sae.W_enc, sae.b_enc, 16, torch.float32)
    assert torch.equal(indices.sort(1).values, best.sort(1).values)
    assert values.shape == (5, 16)


def test_an_sae_searches_so_where_no_gradient_is_wanted() -> None:
    sae, x_ND = _problem(512, 16), _inputs(40)
    with torch.no_grad():
        plain = sae(x_ND)
    with_gradient = sae(x_ND)
    sae.search_dtype = torch.bfloat16
    with torch.no_grad():
        assert torch.allclose(sae(x_ND), plain, atol=1e-5)
    assert torch.equal(sae(x_ND), with_gradient)  # training is left as it is
