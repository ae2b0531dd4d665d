"""The ReLU SAE: its formula, its penalty, its gradient and what it learns."""

from __future__ import annotations

import pytest
import torch

from monosemy.saes.base import StepInfo
from monosemy.saes.penalised import typical_norm
from monosemy.saes.relu import ReLUSAE
from monosemy.specs import ReLUSpec
from tests.support.sparse_truth import D_IN, FEATURES, Planted, trained

NONE = torch.zeros(0, dtype=torch.int64)


def some_sae(**options: object) -> ReLUSAE:
    sae = ReLUSAE(ReLUSpec(d_sae=40, target_l0=None, **options), 12).double()
    sae.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        sae.b_enc.copy_(torch.linspace(-0.3, 0.3, 40))
        sae.b_dec.copy_(torch.linspace(-1, 1, 12))
    return sae


def activations(n: int = 50) -> torch.Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_encode_is_the_formula() -> None:
    sae, x = some_sae(), activations()
    wanted = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).relu()
    torch.testing.assert_close(sae.encode(x).dense(40), wanted)
    result = sae.training_pass(x, x, StepInfo(0, 10, NONE))
    torch.testing.assert_close(result.reconstruction, wanted @ sae.W_dec + sae.b_dec)
    assert float(result.l0) == pytest.approx(float((wanted > 0).sum(1).double().mean()))
    assert torch.equal(result.fired_F.double(), (wanted > 0).sum(0).double())


def test_inference_has_the_gradient_of_the_formula() -> None:
    sae, x = some_sae(), activations().requires_grad_()
    weights = torch.randn(50, 12, dtype=torch.float64)
    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    inputs = [x, *(getattr(sae, name) for name in names)]
    sparse = torch.autograd.grad((sae(x) * weights).sum(), inputs)
    acts = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).relu()
    dense = torch.autograd.grad(((acts @ sae.W_dec + sae.b_dec) * weights).sum(), inputs)
    for ours, wanted in zip(sparse, dense, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("penalty", ["l1", "tanh"])
def test_the_penalty_by_hand(penalty: str) -> None:
    sae, x = some_sae(penalty=penalty, sparsity_coefficient=0.3), activations()
    size = sae.encode(x).dense(40) / typical_norm(x)
    size = torch.tanh(4 * size) if penalty == "tanh" else size
    terms = sae.training_pass(x, x, StepInfo(0, 10, NONE)).terms
    torch.testing.assert_close(
        terms["sparsity"], 0.3 * size.sum(1).mean(), check_dtype=False, rtol=1e-5, atol=1e-6
    )
    assert set(terms) == {"sparsity"}


@pytest.mark.parametrize("penalty", ["l1", "tanh"])
def test_scaling_data_and_biases_leaves_the_terms(penalty: str) -> None:
    x, dead = activations(), torch.tensor([1, 5, 7])
    small, large = some_sae(penalty=penalty), some_sae(penalty=penalty)
    large.rescale(1 / 50.0, 1 / 50.0)
    first = small.training_pass(x, x, StepInfo(0, 10, dead)).terms
    second = large.training_pass(x * 50, x * 50, StepInfo(0, 10, dead)).terms
    assert set(first) == {"auxk", "sparsity"}
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-5, atol=1e-7)


def test_a_budget_keeps_the_largest() -> None:
    sae, x = some_sae(), activations()
    full = sae.encode(x).dense(40)
    kept = torch.zeros_like(full).scatter(1, full.topk(3).indices, 1.0)
    torch.testing.assert_close(sae.encode(x, 3).dense(40), full * kept)


def test_it_learns_planted_features_better_than_a_frozen_decoder() -> None:
    wanted = {"target_l0": 8.0, "steps": 500}
    run, twin = trained("relu", **wanted), trained("relu", frozen=True, **wanted)
    for each in (run, twin):  # else it would compare different sparsities
        assert each.mean_l0() == pytest.approx(8.0, rel=0.1)
    assert run.mean_fvu() < 0.85 * twin.mean_fvu()
    assert run.sae.encode(Planted(1).batch()).dense(FEATURES).shape == (512, FEATURES)
    assert run.sae.W_dec.shape == (FEATURES, D_IN)
