"""Greedy edits are those of trying every feature; with an oracle's, the supervised ones."""

from __future__ import annotations

import torch
from torch import Tensor

from monosemy.circuits.supervised.coders import pca_coder, random_coder
from monosemy.circuits.supervised.dictionary import SupervisedDictionary
from monosemy.circuits.supervised.sparse_edit import (
    changes,
    greedy_edit,
    scaled_magnitude,
    weights,
)
from monosemy.saes.codes import Codes
from tests.support.planted_attributes import IOI_LIKE, planted


def random_codes(n: int, k: int, features: int, seed: int) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    indices = torch.stack([torch.randperm(features, generator=generator)[:k] for _ in range(n)])
    values = torch.rand(n, k, generator=generator) + 0.1
    values[:, -1] = 0.0  # padding
    indices[:, -1] = indices[:, 0]  # whose index is another's
    return Codes(indices, values)


def brute_force(
    source: Codes, target: Codes, rows_FD: Tensor, wanted_ND: Tensor, picks: int
) -> Tensor:
    """As the paper's code does it, with every feature tried at every pick."""
    delta_NF = target.dense(len(rows_FD)) - source.dense(len(rows_FD))
    moved_ND = torch.zeros_like(wanted_ND)
    n = torch.arange(len(wanted_ND))
    for _ in range(picks):
        tried_NFD = moved_ND[:, None] + delta_NF[..., None] * rows_FD - wanted_ND[:, None]
        best_N = tried_NFD.norm(dim=2).argmin(1)
        moved_ND = moved_ND + delta_NF[n, best_N, None] * rows_FD[best_N]
        delta_NF[n, best_N] = 0
    return moved_ND


def test_it_picks_what_trying_every_feature_picks() -> None:
    generator = torch.Generator().manual_seed(0)
    rows_FD = torch.randn(200, 24, generator=generator)
    source, target = random_codes(80, 9, 200, 1), random_codes(80, 12, 200, 2)
    # Some features are active in both, with other activations.
    target.indices[:, :3] = source.indices[:, :3]
    wanted_ND = torch.randn(80, 24, generator=generator) * 3

    edit = greedy_edit(source, target, rows_FD, wanted_ND, [1, 2, 4, 8])

    for picks in (1, 2, 4, 8):
        expected_ND = brute_force(source, target, rows_FD, wanted_ND, picks)
        assert torch.allclose(edit.moved[picks], expected_ND, atol=1e-4)
    assert (edit.edited[4] <= 4).all() and edit.edited[4].float().mean() > 1


def test_a_feature_of_both_is_changed_once() -> None:
    source = Codes(torch.tensor([[3, 5]]), torch.tensor([[1.0, 2.0]]))
    target = Codes(torch.tensor([[5, 7]]), torch.tensor([[0.5, 4.0]]))
    found = changes(source, target)
    deltas: dict[int, float] = {}
    for feature, delta in zip(found.features[0].tolist(), found.deltas[0].tolist(), strict=True):
        deltas[feature] = deltas.get(feature, 0.0) + delta
    assert deltas == {3: -1.0, 5: -1.5, 7: 4.0}


def test_with_an_oracles_dictionary_two_picks_are_the_supervised_edit() -> None:
    world = planted(IOI_LIKE, noise=0.1 / 8)
    found = SupervisedDictionary.fit(world.acts_ND, world.codes_NK, world.values)
    new_NK = world.codes_NK.clone()
    new_NK[:, 0] = (new_NK[:, 0] + 5) % 24
    ones_NK = torch.ones(new_NK.shape)
    source, target = Codes(world.codes_NK, ones_NK), Codes(new_NK, ones_NK)
    moved_ND = found.edit(world.acts_ND, world.codes_NK[:, 0], new_NK[:, 0]) - world.acts_ND

    edit = greedy_edit(source, target, found.rows_UD, moved_ND, [2])

    assert torch.allclose(edit.moved[2], moved_ND, atol=1e-5)
    assert (edit.edited[2] == 2).all()
    weights_NK = weights(world.codes_NK, ones_NK, found.rows_UD)
    assert torch.allclose(edit.removed[2], weights_NK[:, 0], atol=1e-5)
    assert torch.allclose(
        scaled_magnitude(edit.removed[2], weights_NK[:, 0]), torch.zeros(6000), atol=1e-4
    )
    assert torch.allclose(scaled_magnitude(torch.ones(6000), weights_NK[:, 0]), torch.ones(6000))


def test_what_changes_nothing_is_not_edited() -> None:
    codes = random_codes(4, 6, 50, 3)
    edit = greedy_edit(codes, codes, torch.randn(50, 8), torch.zeros(4, 8), [3])
    assert (edit.edited[3] == 0).all() and (edit.moved[3] == 0).all()


def test_pca_and_random_directions_keep_so_many_features_of_positive_value() -> None:
    acts_ND = torch.randn(300, 16, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 17)
    for coder in (pca_coder(acts_ND, 5), random_coder(acts_ND.mean(0), 100, 5, 0)):
        codes = coder.encode(acts_ND)
        assert (codes.l0() == 5).all() and (codes.values >= 0).all()
        assert codes.indices.max() < len(coder.rows_FD)
        missed = (coder.decode(codes) - acts_ND).square().sum()
        assert missed < (acts_ND - acts_ND.mean(0)).square().sum()
    whole = pca_coder(acts_ND, 16)
    assert torch.allclose(whole.decode(whole.encode(acts_ND)), acts_ND, atol=1e-3)


def test_random_directions_take_the_coefficients_of_least_squares() -> None:
    acts_ND = torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
    coder = random_coder(torch.zeros(16), 64, 4, 1)
    codes = coder.encode(acts_ND)
    left_ND = acts_ND - coder.decode(codes)
    along = torch.einsum("nkd,nd->nk", coder.rows_FD[codes.indices], left_ND)
    assert along.abs().max() < 1e-3
