"""BatchTopK and Matryoshka: selection over the batch, thresholds, prefixes, refinement."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from monosemy.saes.base import StepInfo
from monosemy.saes.batchtopk import BatchTopKSAE
from monosemy.saes.codes import Codes
from monosemy.saes.matryoshka import MatryoshkaSAE
from monosemy.saes.pruning import pruned
from monosemy.saes.registry import create
from monosemy.saes.topk import k_at
from monosemy.specs import BatchTopKSpec, MatryoshkaSpec, TopKSpec

D, F, N, K = 10, 40, 64, 3
NOW = StepInfo(0, 10, torch.zeros(0, dtype=torch.int64))


def sae_of(spec: Any) -> Any:
    sae = create(spec, D).double()
    sae.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        sae.b_enc.copy_(torch.randn(F, generator=torch.Generator().manual_seed(2)) * 0.1)
        sae.b_dec.copy_(torch.randn(D, generator=torch.Generator().manual_seed(3)) * 0.1)
    return sae


def data(n: int = N) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(4)).double()


def dense_selection(sae: Any, z: Tensor, total: int) -> Tensor:
    """Plain dense code: relu, and all but the ``total`` largest of the batch set to 0."""
    pre = (z @ sae.W_enc + sae.b_enc).relu()
    least = pre.detach().flatten().topk(total).values[-1]
    return pre * (pre.detach() >= least)


def gradients(sae: Any) -> dict[str, Tensor]:
    return {name: parameter.grad.clone() for name, parameter in sae.named_parameters()}


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_codes_and_gradients_are_those_of_dense_code(steps: int) -> None:
    sae = sae_of(BatchTopKSpec(d_sae=F, k=K, ista_steps=steps, ista_step_size=0.3))
    x = data()
    out = sae.training_pass(x, x, NOW)
    (out.reconstruction - x).pow(2).sum().backward()
    ours = gradients(sae)
    sae.zero_grad()
    centred = z = x - sae.b_dec
    for _ in range(steps):
        z = z + 0.3 * (centred - dense_selection(sae, z, K * N) @ sae.W_dec)
    codes = dense_selection(sae, z, K * N)
    reconstruction = codes @ sae.W_dec + sae.b_dec
    (reconstruction - x).pow(2).sum().backward()
    torch.testing.assert_close(out.reconstruction, reconstruction)
    assert float(out.l0) == pytest.approx(K)
    torch.testing.assert_close(out.fired_F, (codes > 0).sum(0).double())
    for name, wanted in gradients(sae).items():
        torch.testing.assert_close(ours[name], wanted, rtol=1e-9, atol=1e-10, msg=name)


def test_the_running_threshold_is_not_biased_towards_its_start() -> None:
    sae = sae_of(BatchTopKSpec(d_sae=F, k=K, threshold_decay=0.99))
    x = data()
    least = dense_selection(sae, x - sae.b_dec, K * N)
    least = least[least > 0].min().item()
    for _ in range(3):
        sae.training_pass(x, x, NOW)
    assert sae.running_threshold().item() == pytest.approx(least, rel=1e-9)


def test_calibration_gives_k_on_its_tokens_and_nearly_on_others() -> None:
    sae = sae_of(BatchTopKSpec(d_sae=F, k=K)).float()
    x = data(4000).float()
    sae.calibrate(x[:2000])
    assert float(sae.encode(x[:2000]).l0().float().mean()) == pytest.approx(K, abs=0.01)
    assert float(sae.encode(x[2000:]).l0().float().mean()) == pytest.approx(K, rel=0.05)
    assert (sae.encode(x, 2).l0() <= 2).all()
    lower, higher = (sae.encode(x, limit).l0().float().mean() for limit in (0.2, 2.0))
    assert lower > K > higher
    with pytest.raises(ValueError, match="budget"):
        sae.encode(x, -0.5)


def test_a_token_does_not_depend_on_its_neighbours_at_inference() -> None:
    sae = sae_of(BatchTopKSpec(d_sae=F, k=K)).float()
    x = data(200).float()
    sae.calibrate(x)
    alone = sae.encode(x[17:18]).dense(F)[0]
    torch.testing.assert_close(alone, sae.encode(x).dense(F)[17])


def test_prefixes_are_those_of_dense_code_with_their_gradients() -> None:
    spec = MatryoshkaSpec(d_sae=F, k=K, prefixes=[4, 10, 25], inner_weight=0.7)
    sae: MatryoshkaSAE = sae_of(spec)
    x = data()
    out = sae.training_pass(x, x, NOW)
    out.terms["prefixes"].backward()
    ours = gradients(sae)
    sae.zero_grad()
    codes = dense_selection(sae, x - sae.b_dec, K * N)
    variance = (x - x.mean(0)).pow(2).sum()
    wanted = torch.zeros((), dtype=torch.float64)
    for width in (4, 10, 25):
        partial = codes[:, :width] @ sae.W_dec[:width] + sae.b_dec
        wanted = wanted + 0.7 * (partial - x).pow(2).sum() / variance
    wanted.backward()
    torch.testing.assert_close(out.terms["prefixes"], wanted)
    for name, gradient in gradients(sae).items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-9, atol=1e-10, msg=name)


def test_default_prefixes_are_a_sixteenth_a_quarter_and_a_half() -> None:
    assert sae_of(MatryoshkaSpec(d_sae=F, k=K)).prefixes == [2, 10, 20]


def test_a_budget_of_a_batch_need_not_be_whole() -> None:
    sae = sae_of(BatchTopKSpec(d_sae=F, k=2.75, ista_steps=0))
    entries = sae.training_entries(data(), NOW)
    assert len(entries.values) == 2.75 * N
    sae.calibrate(data())
    assert float(sae.encode(data()).l0().double().mean()) == 2.75
    spec = BatchTopKSpec(d_sae=F, k=2.75, k_start=8)
    ks = [k_at(spec, StepInfo(step, 11, NOW.dead)) for step in range(11)]
    assert ks[0] == 8 and ks[-1] == 2.75 and ks[5] == pytest.approx(5.375)


def test_a_whole_budget_is_a_whole_number_and_that_of_a_token_must_be_one() -> None:
    """So that what is keyed by a spec stays what it was."""
    assert BatchTopKSpec(k=32.0).model_dump_json() == BatchTopKSpec(k=32).model_dump_json()
    assert type(BatchTopKSpec.model_validate_json('{"k": 4.0}').k) is int
    for wrong in (0, -1.5, float("nan"), float("inf"), "many", 1e9):
        with pytest.raises(ValidationError):
            BatchTopKSpec(k=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        TopKSpec(k=2.5)  # type: ignore[arg-type]


def test_k_falls_linearly_and_ends_exactly() -> None:
    spec = TopKSpec(d_sae=F, k=4, k_start=20, k_anneal_fraction=0.5)
    ks = [k_at(spec, StepInfo(step, 21, NOW.dead)) for step in range(21)]
    assert ks[0] == 20 and ks[5] == 12 and set(ks[10:]) == {4}
    assert ks == sorted(ks, reverse=True)
    assert k_at(TopKSpec(d_sae=F, k=4), StepInfo(3, 21, NOW.dead)) == 4
    x = data()
    assert float(sae_of(spec).training_pass(x, x, StepInfo(0, 21, NOW.dead)).l0) > 8


def test_refinement_lowers_the_error_at_equal_l0_where_directions_overlap() -> None:
    plain, refining = (sae_of(TopKSpec(d_sae=F, k=K, ista_steps=steps)) for steps in (0, 2))
    generator = torch.Generator().manual_seed(8)
    chosen = torch.rand(500, F, generator=generator).topk(K, dim=1).indices
    codes = torch.zeros(500, F).scatter(1, chosen, 1.0).double()
    for sae in (plain, refining):
        with torch.no_grad():
            sae.b_enc.zero_()
    x = codes @ plain.W_dec + plain.b_dec
    with torch.no_grad():
        first, second = ((sae(x) - x).pow(2).sum() for sae in (plain, refining))
    assert second < 0.8 * first


def test_pruning_drops_what_the_rest_does_not_miss() -> None:
    sae = sae_of(TopKSpec(d_sae=F, k=2))
    with torch.no_grad():
        sae.W_dec.copy_(torch.nn.functional.normalize(torch.ones(F, D).double(), dim=1))
        sae.W_dec[0], sae.W_dec[1] = torch.eye(D).double()[0], torch.eye(D).double()[1]
    x = 2.0 * sae.W_dec[:1] + sae.b_dec
    codes = Codes(torch.tensor([[0, 1]]), torch.tensor([[2.0, 0.5]]).double())
    # Without latent 0 the residual holds all of 2 along it; without latent 1 it holds nothing.
    kept = pruned(sae, x, codes, 0.1)
    assert kept.values.tolist() == [[2.0, 0.0]]
    brute = []
    for i in range(2):
        without = codes.values.clone()
        without[0, i] = 0
        missed = x - sae.decode(Codes(codes.indices, without))
        brute.append(float(missed.detach() @ sae.W_dec[codes.indices[0, i]].detach()))
    assert brute == pytest.approx([2.0, 0.0], abs=1e-9)


def test_a_batch_of_nothing_positive_selects_nothing() -> None:
    sae: BatchTopKSAE = sae_of(BatchTopKSpec(d_sae=F, k=K))
    with torch.no_grad():
        sae.b_enc.fill_(-1e3)
    x = data()
    out = sae.training_pass(x, x, NOW)
    assert float(out.l0) == 0 and out.reconstruction.isfinite().all()
    assert sae.running_threshold().item() == 0
