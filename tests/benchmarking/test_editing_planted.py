"""Edits in a world of known attributes, where answers are linear in activations (methods 6.6)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from monosemy.benchmarking.editing.choose import (
    Move,
    Pairs,
    interchange,
    latents_of,
    random_latents,
    subspace_of,
)
from monosemy.benchmarking.editing.shares import Effects, disentanglement
from monosemy.circuits.supervised.coders import Coder, random_coder
from monosemy.saes.codes import Codes
from tests.support.planted_attributes import IOI_LIKE, Planted, planted

ATTRIBUTES = tuple(IOI_LIKE)
_SIZES = [count for count, _ in IOI_LIKE.values()]


@pytest.fixture(scope="module")
def world() -> Planted:
    return planted(IOI_LIKE, noise=0.1 / 8)


def counterfactuals(world: Planted, rows: slice, seed: int) -> Pairs:
    """Activations, and those of prompts that differ in one attribute and in their noise."""
    draw = torch.Generator().manual_seed(seed)
    base_ND, codes_NK = world.acts_ND[rows], world.codes_NK[rows]
    pairs = {}
    for column, name in enumerate(ATTRIBUTES):
        start, size = world.values.starts[column], _SIZES[column]
        shift_N = torch.randint(1, size, (len(codes_NK),), generator=draw)
        new_N = start + (codes_NK[:, column] - start + shift_N) % size
        moved_ND = world.rows_UD[new_N] - world.rows_UD[codes_NK[:, column]]
        noise_ND = 0.1 / 8 * torch.randn(base_ND.shape, generator=draw)
        pairs[name] = base_ND[:, None], (base_ND + moved_ND + noise_ND)[:, None]
    return pairs


@pytest.fixture(scope="module")
def choosing(world: Planted) -> Pairs:
    return counterfactuals(world, slice(0, 600), 1)


@pytest.fixture(scope="module")
def test_pairs(world: Planted) -> Pairs:
    return counterfactuals(world, slice(3000, 3300), 2)


def oracle(world: Planted) -> Coder:
    """One latent for each value, active where an activation has it."""
    inverse_DU = torch.linalg.pinv(world.rows_UD)

    def apply(x_ND: Tensor) -> Codes:
        found_NU = (x_ND - world.mean_D) @ inverse_DU
        parts = found_NU.split(_SIZES, dim=1)
        starts = world.values.starts[: len(parts)]
        indices = [part.argmax(1) + start for part, start in zip(parts, starts, strict=True)]
        return Codes(torch.stack(indices, 1), torch.ones(len(x_ND), len(parts)))

    return Coder(world.rows_UD, world.mean_D, apply)


def scores(world: Planted, pairs: Pairs, edits: dict[str, Move]) -> dict[str, np.ndarray]:
    """Cause, isolation and disentanglement of the edit of each attribute.  Answers are how far
    activations lie along the values' rows of the attribute that differs."""

    def answers(x_ND: Tensor, column: int) -> np.ndarray:
        start = world.values.starts[column]
        rows_VD = world.rows_UD[start : start + _SIZES[column]]
        return ((x_ND - world.mean_D) @ rows_VD.T).double().numpy()

    cause, isolation = [], []
    for edited in ATTRIBUTES:
        sums = {True: [0.0, 0.0], False: [0.0, 0.0]}
        for column, differs in enumerate(ATTRIBUTES):
            base_NPD, source_NPD = pairs[differs]
            edited_NPD = base_NPD + edits[edited](base_NPD, source_NPD)
            of = Effects(*(answers(x[:, 0], column) for x in (base_NPD, source_NPD, edited_NPD)))
            parts_N = of.cause_N if edited == differs else of.isolation_N
            sums[edited == differs][0] += float(parts_N.sum())
            sums[edited == differs][1] += float(of.size_N.sum())
        cause.append(sums[True][0] / sums[True][1])
        isolation.append(sums[False][0] / sums[False][1])
    made = {"cause": np.array(cause), "isolation": np.array(isolation)}
    return {**made, "disentanglement": disentanglement(made["cause"], made["isolation"])}


def test_an_oracle_moves_one_attribute_and_no_other(
    world: Planted, choosing: Pairs, test_pairs: Pairs
) -> None:
    coder = oracle(world)
    chosen = {name: latents_of(coder, choosing, name) for name in ATTRIBUTES}
    for column, name in enumerate(ATTRIBUTES):
        start = world.values.starts[column]
        latents = chosen[name][0].nonzero()[:, 0].tolist()
        assert latents == list(range(start, start + _SIZES[column]))
    made = scores(world, test_pairs, {name: interchange(coder, chosen[name]) for name in chosen})
    assert (made["cause"] > 0.95).all() and (made["isolation"] > 0.95).all(), made
    assert (made["disentanglement"] > 0.9).all()


@pytest.mark.parametrize(
    ("move", "cause", "isolation"),
    [
        (lambda base, source: torch.zeros_like(base), 0.0, 1.0),
        (lambda base, source: source - base, 1.0, 0.0),
    ],
    ids=["nothing", "everything"],
)
def test_doing_nothing_and_changing_everything_score_nothing(
    world: Planted, test_pairs: Pairs, move: Move, cause: float, isolation: float
) -> None:
    made = scores(world, test_pairs, dict.fromkeys(ATTRIBUTES, move))
    assert made["cause"] == pytest.approx(cause, abs=1e-6)
    assert made["isolation"] == pytest.approx(isolation, abs=1e-6)
    assert made["disentanglement"] == pytest.approx(0, abs=1e-6)


def test_the_subspace_of_what_differs_separates_attributes_that_lie_apart(
    world: Planted, choosing: Pairs, test_pairs: Pairs
) -> None:
    """`pos` is one direction; 23 of `io` and 23 of `s` in 64 dimensions overlap."""
    made = scores(world, test_pairs, {name: subspace_of(choosing, name) for name in ATTRIBUTES})
    assert made["cause"][2] > 0.95
    assert made["disentanglement"][2] > 0.7 > made["disentanglement"][0] > 0.1


def test_random_latents_and_random_directions_are_far_from_it(
    world: Planted, choosing: Pairs, test_pairs: Pairs
) -> None:
    coder = oracle(world)
    picked: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}
    for number, name in enumerate(ATTRIBUTES):
        latents = random_latents(coder, choosing, torch.tensor([_SIZES[number]]), number)
        assert latents.sum() == _SIZES[number]
        picked[name] = interchange(coder, latents)
    assert (scores(world, test_pairs, picked)["disentanglement"] < 0.5).all()
    other = random_coder(world.mean_D, 512, 6, 0)
    chosen = {name: interchange(other, latents_of(other, choosing, name)) for name in ATTRIBUTES}
    assert scores(world, test_pairs, chosen)["disentanglement"].mean() < 0.5


def test_an_attribute_that_nothing_carries_has_no_latents(world: Planted) -> None:
    base_NPD = world.acts_ND[:100].view(50, 2, 64)
    noise_NPD = torch.randn(50, 2, 64, generator=torch.Generator().manual_seed(0))
    coder = Coder(
        torch.eye(64)[:4],
        world.mean_D,
        lambda x: Codes(torch.arange(4).expand(len(x), 4), torch.ones(len(x), 4)),
    )
    pairs = {"io": (base_NPD, base_NPD + noise_NPD), "s": (base_NPD, base_NPD - noise_NPD)}
    latents = latents_of(coder, pairs, "io")
    assert latents.shape == (2, 4) and not latents.any()
    assert (interchange(coder, latents)(*pairs["io"]) == 0).all()
    assert not random_latents(coder, pairs, torch.tensor([3, 3]), 0).any()


def test_shares_by_hand() -> None:
    """Answers to one prompt with two names: the whole turns them round, the edit goes half way."""
    clean, whole, edited = np.array([[2.0, 0.0]]), np.array([[0.0, 2.0]]), np.array([[1.0, 1.0]])
    of = Effects(clean, whole, edited)
    assert of.size_N == pytest.approx([8**0.5])
    assert of.cause_N / of.size_N == pytest.approx([0.5])
    assert of.isolation_N / of.size_N == pytest.approx([0.5])
    assert (of.turned_N, of.follows_N, of.stays_N) == (1, 0, 1)
    lifted = Effects(clean, whole, clean + 7)
    assert lifted.cause_N == pytest.approx([0]) and lifted.isolation_N == pytest.approx(of.size_N)
    assert disentanglement(np.array([-1.0, 2.0]), np.array([1.0, 0.5])).tolist() == [0, 0.5]
