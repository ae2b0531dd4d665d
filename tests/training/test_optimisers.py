"""Optimisers: what a step is, how much state it takes, that the state goes on where it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from monosemy.saes.registry import create
from monosemy.specs import TopKSpec, TrainingSpec
from monosemy.training.optimisers import Muon, Signum, make_optimiser, orthogonalised
from monosemy.training.trainer import SAETrainer
from tests.support.planted import planted

NAMES: list[Any] = ["adam", "signum", "muon"]


def parameter(*shape: int, seed: int = 0) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def test_signum_steps_by_the_sign_of_the_running_mean() -> None:
    p = parameter(3)
    optimiser, start = Signum([p], lr=0.1, momentum=0.5), p.detach().clone()
    p.grad = torch.tensor([2.0, -3.0, 0.0])
    optimiser.step()
    torch.testing.assert_close(p.detach(), start + torch.tensor([-0.1, 0.1, 0.0]))
    p.grad = torch.tensor([-0.1, -3.0, 1.0])  # the first one's mean stays positive
    optimiser.step()
    torch.testing.assert_close(p.detach(), start + torch.tensor([-0.2, 0.2, -0.1]))


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (16, 16)])
def test_orthogonalising_keeps_directions_and_levels_singular_values(shape: Any) -> None:
    matrix = parameter(*shape).detach()
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalised(matrix)
    values = torch.diag(u.T @ result @ v.T)
    large = s > 0.1 * s.max()
    assert (values[large] > 0.6).all() and (values[large] < 1.3).all()
    torch.testing.assert_close(result, u @ torch.diag(values) @ v, atol=1e-3, rtol=0)


def test_muon_steps_are_as_large_as_adams_times_a_fifth() -> None:
    p = parameter(64, 24)
    before = p.detach().clone()
    optimiser = Muon([p], lr=0.01)
    p.grad = parameter(64, 24, seed=1).detach() * 1e-3
    optimiser.step()
    size = float((p.detach() - before).pow(2).mean().sqrt())
    assert size == pytest.approx(0.2 * 0.01, rel=0.2)


def test_muon_is_adam_for_what_is_no_matrix() -> None:
    ours, theirs = parameter(7), parameter(7)
    muon, adam = Muon([ours], lr=0.01), torch.optim.Adam([theirs], lr=0.01)
    for seed in range(5):
        ours.grad = theirs.grad = parameter(7, seed=10 + seed).detach()
        muon.step()
        adam.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def numbers_kept(optimiser: torch.optim.Optimizer) -> int:
    states = optimiser.state_dict()["state"].values()
    return sum(v.numel() for state in states for v in state.values() if v.dim() > 0)


def test_state_per_weight() -> None:
    kept = {}
    for name in NAMES:
        p = parameter(50, 20)
        optimiser = make_optimiser(name, [p], 0.1)
        p.grad = torch.ones_like(p)
        optimiser.step()
        kept[name] = numbers_kept(optimiser) / p.numel()
    assert kept == {"adam": 2.0, "signum": 1.0, "muon": 1.0}


@pytest.mark.parametrize("name", NAMES)
def test_each_trains_and_resumes_to_the_bit(name: Any) -> None:
    source, _, _ = planted()
    spec = TrainingSpec(optimiser=name)
    generator = torch.Generator().manual_seed(2)
    data = [
        source.acts[torch.randint(0, len(source.acts), (256,), generator=generator)]
        for _ in range(160)
    ]

    def trainer() -> SAETrainer:
        sae = create(TopKSpec(d_sae=48, k=3, dead_after_tokens=5000), 24)
        sae.initialise(torch.Generator().manual_seed(0))
        with torch.no_grad():
            sae.b_dec.copy_(source.acts.mean(0))
        return SAETrainer(sae, spec)

    whole, resumed = trainer(), trainer()
    for number, x in enumerate(data[:100]):
        whole.step(x, number, 2e-3)
    first = whole.readings()["fvu"]
    resumed.restore("a", {k: v.clone().contiguous() for k, v in whole.state("a").items()})
    for number, x in enumerate(data[100:], start=100):
        whole.step(x, number, 2e-3)
        resumed.step(x, number, 2e-3)
    for key, value in whole.state("a").items():
        assert torch.equal(value, resumed.state("a")[key]), key
    assert whole.readings()["fvu"] < 0.95 * first


def test_adam_is_torchs_to_the_bit_also_over_what_is_laid_out_in_columns() -> None:
    """A bias, a matrix in rows, one in columns as ``W_enc`` is; and one whose gradient lies
    otherwise than it does."""
    shapes = [parameter(9), parameter(33, 7), parameter(7, 33).detach().T, parameter(5, 21)]
    sets = [[nn.Parameter(each.detach().clone()) for each in shapes] for _ in range(2)]
    assert sets[0][2].stride() == (1, 33)
    optimisers = make_optimiser("adam", sets[0], 0.01), torch.optim.Adam(sets[1], 0.01, fused=True)
    for seed in range(4):
        for parameters, optimiser in zip(sets, optimisers, strict=True):
            for p in parameters:
                p.grad = torch.empty_like(p).copy_(parameter(*p.shape, seed=seed).detach())
            odd = parameters[-1]
            odd.grad = parameter(*odd.shape[::-1], seed=seed).detach().T
            optimiser.step()
    for ours, theirs in zip(*sets, strict=True):
        assert torch.equal(ours, theirs)
        for name, value in optimisers[1].state[theirs].items():
            assert torch.equal(optimisers[0].state[ours][name], value), name
