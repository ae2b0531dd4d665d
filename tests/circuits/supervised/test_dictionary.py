"""The supervised dictionary finds planted codes, and its edits are those of the truth."""

from __future__ import annotations

import pytest
import torch

from monosemy.circuits.supervised.dictionary import SupervisedDictionary, explained
from monosemy.errors import DataError
from tests.support.planted_attributes import IOI_LIKE, Planted, planted


@pytest.fixture(scope="module")
def world() -> Planted:
    # Noise of norm .1 sqrt(64) beside codes of norm 1.
    return planted(IOI_LIKE, noise=0.1 / 8)


@pytest.mark.parametrize("method", ["mean", "mse"])
def test_codes_are_those_that_were_planted(world: Planted, method: str) -> None:
    found = SupervisedDictionary.fit(world.acts_ND, world.codes_NK, world.values, method)  # type: ignore[arg-type]

    for number, name in enumerate(world.values.names):
        codes = slice(*world.values.starts[number : number + 2])
        rows_VD = found.rows_UD[codes] - found.rows_UD[codes].mean(0)
        cosine_V = torch.cosine_similarity(rows_VD, world.rows_UD[codes], dim=1)
        assert cosine_V.mean() > 0.99, name


def test_least_squares_explain_at_least_as_much_as_means(world: Planted) -> None:
    r2 = {}
    for method in ("mean", "mse"):
        found = SupervisedDictionary.fit(world.acts_ND, world.codes_NK, world.values, method)  # type: ignore[arg-type]
        made_ND = found.reconstruct(world.codes_NK)
        r2[method] = explained(world.acts_ND, made_ND, found.mean_D)
    assert r2["mse"] >= r2["mean"] >= 0.98


def test_edits_give_the_wanted_value_to_the_nearest_code(world: Planted) -> None:
    found = SupervisedDictionary.fit(world.acts_ND, world.codes_NK, world.values)
    n, io = len(world.acts_ND), world.values.names.index("io")
    old_N = world.codes_NK[:, io]
    new_N = (old_N + torch.randint(1, 24, (n,), generator=torch.Generator().manual_seed(1))) % 24
    edited_ND = found.edit(world.acts_ND, old_N, new_N)

    target_NK = world.codes_NK.clone()
    target_NK[:, io] = new_N
    others_ND = found.reconstruct(target_NK) - found.rows_UD[new_N]
    nearest_N = torch.cdist(edited_ND - others_ND, found.rows_UD[:24]).argmin(1)
    assert (nearest_N == new_N).float().mean() > 0.99

    true_ND = world.acts_ND + world.rows_UD[new_N] - world.rows_UD[old_N]
    missed = (edited_ND - true_ND).norm(dim=1) / (world.acts_ND - true_ND).norm(dim=1)
    assert missed.mean() < 0.15


def test_least_squares_solve_the_normal_equations_and_are_the_shortest() -> None:
    world = planted({"a": (5, 1.0), "b": (3, 2.0)}, d=7, n=200, noise=0.5)
    found = SupervisedDictionary.fit(world.acts_ND, world.codes_NK, world.values, "mse")
    design_NU = torch.zeros(200, 8, dtype=torch.float64).scatter_(1, world.codes_NK, 1.0)
    centred_ND = world.acts_ND.double() - world.acts_ND.double().mean(0)
    left_UD = design_NU.T @ (design_NU @ found.rows_UD.double() - centred_ND)
    assert left_UD.abs().max() < 1e-4
    shortest_UD = torch.linalg.lstsq(design_NU, centred_ND, driver="gelsd").solution
    assert torch.allclose(found.rows_UD.double(), shortest_UD, atol=1e-5)


def test_weights_of_codes_of_a_reconstruction_are_one_together(world: Planted) -> None:
    from monosemy.circuits.supervised.sparse_edit import weights

    found = SupervisedDictionary.fit(world.acts_ND, world.codes_NK, world.values)
    weights_NK = weights(world.codes_NK, torch.ones(world.codes_NK.shape), found.rows_UD)
    assert torch.allclose(weights_NK.sum(1), torch.ones(len(weights_NK)), atol=1e-4)


def test_what_cannot_be_fitted_is_told() -> None:
    world = planted({"a": (3, 1.0), "b": (2, 1.0)}, d=4, n=20)
    values, codes_NK = world.values, world.codes_NK.clone()
    codes_NK[codes_NK[:, 0] == 2, 0] = 0
    with pytest.raises(DataError, match="a=v002"):
        SupervisedDictionary.fit(world.acts_ND, codes_NK, values)
    with pytest.raises(DataError, match="finite"):
        SupervisedDictionary.fit(world.acts_ND * float("nan"), world.codes_NK, values)
    with pytest.raises(DataError, match="no prompts"):
        SupervisedDictionary.fit(world.acts_ND[:0], world.codes_NK[:0], values)
