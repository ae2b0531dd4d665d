"""LEACE: nothing linear is left, other concepts stay, and less is changed than by taking the mean
difference out (table J)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monosemy.concepts.leace import Eraser, leace, mean_difference
from monosemy.concepts.probes import linear_probe, radial_probe
from monosemy.errors import DataError
from monosemy.interp.statistics.ranks import auroc

FIT, TEST, WIDTH = 3000, 1000, 64


def world(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """(activations, one concept, another): noise whose variance falls off as that of language
    models does, and a direction for each concept that is none of the noise's axes."""
    draw = torch.Generator().manual_seed(seed)
    axes_DD, _ = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=draw))
    sizes_D = 14 / torch.arange(1, WIDTH + 1)
    noise = torch.randn(FIT + TEST, WIDTH, generator=draw) * sizes_D @ axes_DD
    one, two = (torch.rand(FIT + TEST, generator=draw) < 0.5 for _ in range(2))
    rows = torch.randn(2, WIDTH, generator=draw)
    x = noise + 0.5 * one[:, None] * rows[0] + 0.5 * two[:, None] * rows[1]
    return x.double(), one, two


def refit(x: Tensor, on: Tensor) -> float:
    score = linear_probe(x[:FIT], on[:FIT])(x[FIT:])
    return auroc(score[on[FIT:]].tolist(), score[~on[FIT:]].tolist())


@pytest.mark.parametrize("seed", range(3))
def test_a_concept_is_gone_and_the_other_stays(seed: int) -> None:
    x, one, two = world(seed)
    assert refit(x, one) > 0.99
    eraser = leace(x[:FIT], one[:FIT])
    erased = eraser(x)
    assert refit(erased, one) == pytest.approx(0.5, abs=0.03)
    assert refit(erased, two) > 0.99
    centred = erased[:FIT] - erased[:FIT].mean(0)
    covariance = centred.T @ (one[:FIT].double() - one[:FIT].double().mean()) / FIT
    assert covariance.abs().max() < 1e-9
    assert torch.allclose(erased[:FIT].mean(0), x[:FIT].mean(0))
    cheaper, dearer = (edit(x, e) for e in (eraser, mean_difference(x[:FIT], one[:FIT])))
    assert cheaper < 0.6 * dearer


def test_both_concepts_can_be_erased_at_once() -> None:
    x, one, two = world(4)
    erased = leace(x[:FIT], torch.stack([one, two], 1)[:FIT])(x)
    assert refit(erased, one) == pytest.approx(0.5, abs=0.03)
    assert refit(erased, two) == pytest.approx(0.5, abs=0.03)


def test_it_does_not_depend_on_the_unit_and_works_with_more_numbers_than_texts() -> None:
    x, one, _ = world(5)
    small = leace(x[:FIT] * 1e-4, one[:FIT])(x * 1e-4) * 1e4
    assert torch.allclose(small, leace(x[:FIT], one[:FIT])(x), atol=1e-8)
    few, labels = x[:40], one[:40]
    erased = leace(few, labels)(few)
    score = linear_probe(erased, labels)(erased)
    assert auroc(score[labels].tolist(), score[~labels].tolist()) == 0.5


def test_it_is_what_the_package_of_its_authors_computes_without_shrinkage() -> None:
    package = pytest.importorskip("concept_erasure")
    x, one, _ = world(6)
    theirs = package.LeaceFitter.fit(
        x[:FIT], one[:FIT].double(), shrinkage=False, constrain_cov_trace=False
    ).eraser
    assert torch.allclose(leace(x[:FIT], one[:FIT])(x), theirs(x), atol=5e-5)


def test_a_radial_probe_finds_what_no_linear_one_does() -> None:
    draw = torch.Generator().manual_seed(7)
    x = torch.randn(500, 6, generator=draw).double()
    on = x[:, :2].square().sum(1) > 1.4
    found = []
    for probe in (linear_probe, radial_probe):
        score = probe(x[:300], on[:300])(x[300:])
        found.append(auroc(score[on[300:]].tolist(), score[~on[300:]].tolist()))
    assert found[0] < 0.65 and found[1] > 0.9


def test_without_two_classes_nothing_is_erased() -> None:
    x, one, _ = world(8)
    for labels in (torch.zeros(FIT), torch.ones(FIT)):
        with pytest.raises(DataError, match="with and without"):
            leace(x[:FIT], labels)
        with pytest.raises(DataError, match="with and without"):
            mean_difference(x[:FIT], labels)
    with pytest.raises(DataError):
        leace(x[:1], one[:1])


def edit(x: Tensor, eraser: Eraser) -> float:
    return float((eraser(x[:FIT]) - x[:FIT]).square().sum(1).mean())
