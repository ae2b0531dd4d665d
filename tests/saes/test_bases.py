"""Bases that need no training: known answers, equal sparsity, and a world that an SAE sees into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from monosemy.errors import DataError
from monosemy.evals.synthetic.metrics import TruthSums
from monosemy.formats.saelens import load_sae, save_sae
from monosemy.saes import bases
from monosemy.saes.base import SAE
from monosemy.specs import BasisPipelineRun, BasisRun
from monosemy.specs.bases import Selection
from tests.support.sparse_truth import ACTIVE, FEATURES, Planted, trained

N, D = 3000, 24


def activations(seed: int = 0) -> torch.Tensor:
    """Far from the origin, both signs, much wider in some directions than in others."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.linalg.qr(torch.randn(D, D, generator=generator))[0]
    x = torch.randn(N, D, generator=generator) * torch.linspace(4.0, 0.1, D)
    return x @ mixing + 1.0


ONES = torch.ones(D)


def made(name: str, x: torch.Tensor, selection: Selection, l0: float) -> SAE:
    if name == "neurons":
        return bases.neurons(x, ONES, selection, l0)
    if name == "pca":
        return bases.principal_components(x, D, selection, l0)
    return bases.random_directions(x, 100, 3, selection, l0)


def test_neurons_are_the_coordinates_to_the_bit() -> None:
    x = activations()
    sae = bases.neurons(x, torch.rand(D) + 0.5, "all", 1.0)
    assert torch.equal(sae.W_dec, torch.cat([torch.eye(D), -torch.eye(D)]))
    codes = sae.encode(x)
    assert torch.equal(sae.decode(codes), x)
    dense = codes.dense(2 * D)
    assert torch.equal(dense[:, :D], x.relu()) and torch.equal(dense[:, D:], (-x).relu())


def test_components_are_numpys() -> None:
    x = activations()
    rows = bases.components(x, D).double().numpy()
    centred = x.double().numpy() - x.double().numpy().mean(0)
    _, sizes, theirs = np.linalg.svd(centred, full_matrices=False)
    assert (np.diff(sizes) < 0).all()
    signs = np.sign((rows * theirs).sum(1, keepdims=True))
    np.testing.assert_allclose(rows, theirs * signs, atol=1e-5)
    assert (rows[np.arange(D), np.abs(rows).argmax(1)] > 0).all()
    sae = bases.principal_components(x, D, "all", 1.0)
    torch.testing.assert_close(sae(x), x, atol=1e-4, rtol=1e-4)
    few = bases.principal_components(x, 5, "all", 1.0)
    missed = float((few(x) - x).double().pow(2).sum())
    assert missed == pytest.approx(float((sizes[5:] ** 2).sum()), rel=1e-3)


def test_random_directions_are_unit_rows_of_their_seed() -> None:
    x = activations()
    first, again, other = (bases.random_directions(x, 50, s, "top_k", 4) for s in (1, 1, 2))
    assert torch.equal(first.W_dec, again.W_dec) and not torch.equal(first.W_dec, other.W_dec)
    torch.testing.assert_close(first.W_dec.norm(dim=1), torch.ones(50))
    torch.testing.assert_close(first.b_dec, x.mean(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("l0", [1.0, 3.5, 8.0])
@pytest.mark.parametrize("name", ["neurons", "pca", "random_directions"])
def test_one_threshold_gives_the_wanted_sparsity(name: str, l0: float) -> None:
    x = activations()
    sae = made(name, x, "threshold", l0)
    assert bases.mean_l0(sae, x) == pytest.approx(l0, abs=2 / N)
    smallest = [float(row[row > 0].min()) for row in sae.encode(x).dense(sae.d_sae).T if row.any()]
    assert max(smallest) / min(smallest) < 1.5, "one threshold for all"
    largest = made(name, x, "top_k", l0)
    assert bases.mean_l0(largest, x) == round(l0)


def test_a_neuron_is_compared_by_what_it_writes() -> None:
    x, weight = activations(), torch.linspace(0.1, 3.0, D)
    written = x.abs() * weight
    kept = bases.neurons(x, weight, "threshold", 4.0)
    dense = kept.encode(x).dense(2 * D)
    fires = (dense[:, :D] + dense[:, D:]) > 0
    limit = written.flatten().sort(descending=True).values[4 * N - 1]
    assert torch.equal(fires, written >= limit * (1 - 1e-6))
    assert torch.equal(dense[:, :D][fires], x.relu()[fires])
    largest = bases.neurons(x, weight, "top_k", 4.0)
    codes = largest.encode(x)
    assert torch.equal(
        codes.indices.remainder(D).sort(dim=1).values,
        written.topk(4, dim=1).indices.sort(dim=1).values,
    )
    # Its reconstruction is the activations of those that are kept.
    kept_x = torch.zeros_like(x).scatter(1, codes.indices % D, x.gather(1, codes.indices % D))
    torch.testing.assert_close(largest(x), kept_x, atol=1e-5, rtol=1e-5)


def test_a_neuron_that_writes_nothing_is_kept_last() -> None:
    weight = torch.cat([torch.zeros(3), torch.ones(D - 3)])
    for selection in ("threshold", "top_k"):
        sae = bases.neurons(activations(), weight, selection, 4.0)  # type: ignore[arg-type]
        dense = sae.encode(activations()).dense(2 * D)
        assert not dense[:, :3].any() and not dense[:, D : D + 3].any()
        assert all(tensor.isfinite().all() for tensor in sae.state_dict().values())


@pytest.mark.parametrize("selection", ["threshold", "top_k"])
@pytest.mark.parametrize("name", ["neurons", "pca", "random_directions"])
def test_a_sparsity_that_cannot_be_had_is_refused(name: str, selection: Selection) -> None:
    """Of two opposite latents one is active at most, of other directions about half."""
    x, most = activations(), 50 if name == "random_directions" else D
    for l0 in (most + 8.0, 200.0):
        with pytest.raises(DataError, match=f"not the l0 of {l0:g} that is wanted"):
            made(name, x, selection, l0)
    made(name, x, selection, most - 10.0)
    with pytest.raises(DataError, match=r"^0\.5 latents of this basis"):
        bases.neurons((x - 1.0).relu()[:, :1], ONES[:1], selection, 1.0)


def test_one_that_cannot_be_had_whatever_the_tokens_is_refused_as_a_spec() -> None:
    pca: dict[str, Any] = {"basis": "pca", "directions": 8}
    for options, message in (
        ({"l0": 9}, "of 8 directions no more are active at once; l0 is 9"),
        ({}, "l0 is 32 unless it says another"),
        ({"directions": 1, "l0": 2}, "of 1 direction no more"),
        ({"selection": "top_k", "l0": 2.5}, "whole number of latents; l0 is 2.5"),
    ):
        for spec in (BasisRun, BasisPipelineRun):
            with pytest.raises(ValidationError, match=message):
                spec(**{**pca, **options})
    assert BasisRun(**pca, beside="demo").l0 is None and BasisRun(**pca, l0=8).l0 == 8
    assert BasisRun(**pca, selection="all").directions == 8


def test_more_components_than_there_are_is_refused() -> None:
    x = activations()
    with pytest.raises(DataError, match="have 24 principal components, not 25"):
        bases.principal_components(x, 25, "top_k", 2)
    with pytest.raises(DataError, match="have 9 principal components"):
        bases.principal_components(x[:10], 10, "top_k", 2)


@pytest.mark.parametrize("selection", ["threshold", "top_k", "all"])
@pytest.mark.parametrize("name", ["neurons", "pca", "random_directions"])
def test_it_is_an_sae_folder_like_any_other(
    name: str, selection: Selection, tmp_path: Path
) -> None:
    x = activations()
    sae = made(name, x, selection, 3.0)
    save_sae(sae, tmp_path / "basis", {"hook_name": "blocks.0.mlp.hook_post"}, {})
    loaded = load_sae(tmp_path / "basis")
    assert torch.equal(loaded.encode(x).dense(sae.d_sae), sae.encode(x).dense(sae.d_sae))


def f1(sae: SAE, world: Planted, n: int = 4000) -> float:
    sums = TruthSums(sae, world.atoms_FD)
    sums.add(*world.sample(n))
    return sums.firing().f1


def advantages(steps: int, seed: int) -> dict[str, float]:
    """How much larger an SAE's F1 is than that of each basis of the same L0 on the same data."""
    sae = trained("topk", steps, world=seed, k=int(ACTIVE)).sae.requires_grad_(False)
    x = Planted(seed).batch(N)
    l0 = bases.mean_l0(sae, x)
    others = {
        "neurons": bases.neurons(x, torch.ones(x.shape[1]), "threshold", l0),
        "pca": bases.principal_components(x, x.shape[1], "threshold", l0),
        # Another seed than the world's, whose atoms these directions would be.
        "random": bases.random_directions(x, FEATURES, seed + 1000, "threshold", l0),
        "random, largest": bases.random_directions(x, FEATURES, seed + 1000, "top_k", l0),
    }
    own = f1(sae, Planted(seed))
    for name, each in others.items():
        assert abs(bases.mean_l0(each, x) - l0) < 0.5, name
    return {name: own - f1(each, Planted(seed)) for name, each in others.items()}


def test_an_sae_sees_features_in_superposition_and_no_basis_does() -> None:
    assert min(advantages(600, 0).values()) > 0.2


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(3))
def test_it_does_so_whatever_the_seed(seed: int) -> None:
    assert min(advantages(2500, seed).values()) > 0.3
