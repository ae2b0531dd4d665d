"""Crosscoders: the measure of a latent, places of other scales, and which latents are exclusive."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from monosemy.errors import DataError
from monosemy.evals.latent_scaling import LatentScaling, ScalingSums
from monosemy.saes.crosscoder import Crosscoder, classes, delta
from monosemy.saes.registry import create
from monosemy.specs import CrosscoderSpec, L1CrosscoderSpec, SAESpec, TrainingSpec
from monosemy.specs.latent_classes import LatentClass, class_of_norms
from monosemy.training.run_group import ALONE
from monosemy.training.sae_training import Scale
from monosemy.training.trainer import SAETrainer

WIDTH = 48
UNREVIVED: dict[str, Any] = {"dead_after_tokens": 10**9}
"""AuxK would have dead latents split mixed features further."""
SIZES = [
    pytest.param(1000, 256, id="reduced"),
    pytest.param(2500, 512, id="whole", marks=pytest.mark.campaign),
]


class Kinds(NamedTuple):
    shared: slice = slice(0, 36)
    only_a: slice = slice(36, 44)
    only_b: slice = slice(44, 52)
    weak: slice = slice(52, 60)
    """In A at .2 of B."""
    mixed: slice = slice(60, 68)
    """One direction in both models; half of the time in both, a quarter in A or B alone."""


KINDS = Kinds()


class TwoModels:
    """Two models side by side, with features that both have, one has, or both have at times."""

    def __init__(self, seed: int, scale_a: float = 1.0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.scale_a = scale_a
        b = normalize(torch.randn(68, WIDTH, generator=self.generator), dim=1)
        turned = b + 0.3 * normalize(torch.randn(68, WIDTH, generator=self.generator), dim=1)
        a = b.clone()
        a[KINDS.shared] = normalize(turned, dim=1)[KINDS.shared]
        a[KINDS.only_b], b[KINDS.only_a] = 0.0, 0.0
        a[KINDS.weak] *= 0.2
        self.a, self.b = a, b

    def batch(self, n: int) -> Tensor:
        """``[n, 2 * WIDTH]``."""
        fires = torch.rand(n, 68, generator=self.generator) < 0.05
        acts = fires * (0.5 + torch.rand(n, 68, generator=self.generator))
        where = torch.rand(n, 8, generator=self.generator)
        in_a, in_b = acts.clone(), acts.clone()
        in_a[:, KINDS.mixed] *= where < 0.75
        in_b[:, KINDS.mixed] *= (where < 0.5) | (where >= 0.75)
        x = torch.cat([in_a @ self.a, in_b @ self.b], dim=1)
        x = x + 0.02 * torch.randn(x.shape, generator=self.generator)
        x[:, :WIDTH] *= self.scale_a
        return x


def trained(spec: SAESpec, world: TwoModels, steps: int, batch: int) -> Crosscoder:
    """With a scale for each place, which is folded in at the end, as a run does it."""
    sae = create(spec, 2 * WIDTH)
    sae.initialise(torch.Generator().manual_seed(0))
    assert isinstance(sae, Crosscoder)
    scale = Scale([slice(0, WIDTH), slice(WIDTH, 2 * WIDTH)], one=sae.one_scale)
    scale.measure(world.batch(8192), ALONE)
    factor = scale.factor(torch.device("cpu"))
    trainer = SAETrainer(sae, TrainingSpec())
    for step in range(steps):
        x = world.batch(batch) * factor
        if step == 0:
            with torch.no_grad():
                sae.begin(x)
        trainer.step(x, step, 3e-3 * min(1.0, 5 * (1 - step / steps)), steps)
    with torch.no_grad():
        sae.calibrate(x)
    sae.rescale(factor, factor)
    sae.requires_grad_(False)
    return sae


def scaling_of(sae: Crosscoder, world: TwoModels, n: int = 8000) -> LatentScaling:
    sums = ScalingSums(sae)
    for part in world.batch(n).split(1000):
        sums.add(part)
    return sums.result()


def judged(sae: Crosscoder, world: TwoModels, which: Tensor) -> tuple[float, int]:
    """(precision, planted directions of B alone that are among them) of latents called B-only."""
    rows = normalize(sae.W_dec[which][:, WIDTH:], dim=1)
    cosines = rows @ normalize(world.b[KINDS.only_b], dim=1).T
    near = cosines > 0.8
    return float(near.any(1).float().mean()), int(near.any(0).sum())


def only_b(scaling: LatentScaling) -> Tensor:
    return (delta(scaling.relative_FM) > 0.95) & (scaling.energy_F > 0)


@pytest.mark.parametrize(("steps", "batch"), SIZES)
def test_batchtopk_finds_what_one_model_has_alone(steps: int, batch: int) -> None:
    """All eight, and at most one besides: a k above the planted 3.4 also splits mixed features, of
    which a part is B's alone.  The ratios tell."""
    world = TwoModels(1)
    sae = trained(CrosscoderSpec(places=2, d_sae=128, k=3.5, **UNREVIVED), world, steps, batch)
    scaling = scaling_of(sae, world)
    precision, recall = judged(sae, world, only_b(scaling))
    assert precision >= 0.85 and recall == 8
    rows = normalize(sae.W_dec[:, WIDTH:], dim=1) @ normalize(world.b[KINDS.weak], dim=1).T
    weak = delta(scaling.relative_FM)[rows.argmax(0)]
    assert float(weak.mean()) == pytest.approx(0.90, abs=0.03)
    assert judged(sae, world, only_b(scaling) & scaling.genuine) == (1.0, 8)


@pytest.mark.parametrize(("steps", "batch"), SIZES)
def test_the_ratios_tell_what_only_looks_exclusive(steps: int, batch: int) -> None:
    world = TwoModels(1)
    spec = L1CrosscoderSpec(
        places=2, d_sae=128, target_l0=None, sparsity_coefficient=0.05, dead_after_tokens=20_000
    )
    sae = trained(spec, world, steps, batch)
    scaling = scaling_of(sae, world)
    called = only_b(scaling)
    before, _ = judged(sae, world, called)
    after, recall = judged(sae, world, called & scaling.genuine)
    assert before < 0.6
    assert after >= 0.9 and recall == 8


def test_a_place_of_ten_times_the_size_changes_nothing() -> None:
    """Each place has a scale of its own; with one for both, the larger would be all that counts."""
    spec = CrosscoderSpec(places=2, d_sae=32, k=3)
    one, ten = (trained(spec, TwoModels(1, scale), 80, 128) for scale in (1.0, 10.0))
    torch.testing.assert_close(one.relative_norms(), ten.relative_norms(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        10 * one.W_dec[:, :WIDTH] / one.W_dec[:, WIDTH:].norm(dim=1)[:, None],
        ten.W_dec[:, :WIDTH] / ten.W_dec[:, WIDTH:].norm(dim=1)[:, None],
        rtol=1e-2,
        atol=1e-2,
    )


def test_the_ratios_are_those_of_the_definition() -> None:
    """Against vectors of every latent and token, which the sums never build."""
    world = TwoModels(2, scale_a=3.0)
    sae = trained(CrosscoderSpec(places=2, d_sae=24, k=3), world, 60, 128)
    x = world.batch(500)
    sums = ScalingSums(sae)
    for part in x.split(170):
        sums.add(part)
    scaling = sums.result()
    unit = sae.written_scale.double()
    acts = sae.encode(x).dense(24).double()
    W = sae.W_dec.double() * unit
    made = acts @ W
    target = (x.double() - sae.b_dec.double()) * unit
    for latent in range(24):
        if not acts[:, latent].any():
            assert not scaling.genuine[latent]
            continue
        f = acts[:, latent : latent + 1]
        own = int(scaling.own_F[latent])
        d = W[latent].view(2, WIDTH)[own]
        beta = {}
        for place in range(2):
            part = slice(place * WIDTH, (place + 1) * WIDTH)
            error = target[:, part] - made[:, part] + f * W[latent, part]
            for name, vectors in (("error", error), ("reconstruction", made[:, part])):
                beta[name, place] = float(
                    torch.linalg.lstsq((f * d).reshape(-1, 1), vectors.reshape(-1, 1)).solution
                )
        for name, values in (
            ("error", scaling.error_FM),
            ("reconstruction", scaling.reconstruction_FM),
        ):
            wanted = beta[name, 1 - own] / beta[name, own]
            assert float(values[latent, 1 - own]) == pytest.approx(wanted, rel=1e-3, abs=1e-4)
            assert float(values[latent, own]) == pytest.approx(1.0)
    summary = scaling.summary(["a", "b"])
    assert sum(each["exclusive"] for each in summary["places"].values()) == len(summary["latents"])
    fire = acts.any(0).nonzero().squeeze(1).tolist()
    latents = {each.feature: each for each in scaling.latents(["a", "b"])}
    assert list(latents) == fire
    kinds = classes(scaling.relative_FM)
    for latent, each in latents.items():
        other = 1 - int(scaling.own_F[latent])
        assert (each.latent_class, each.place) == (kinds[latent], "ba"[other])
        exclusive = each.latent_class == LatentClass.EXCLUSIVE
        assert each.genuine == (bool(scaling.genuine[latent]) if exclusive else None)
        assert each.nu_error == pytest.approx(float(scaling.error_FM[latent, other]))


def test_the_gradient_is_that_of_rows_of_any_length() -> None:
    """Rows are kept in their measure: what is left of a gradient is the loss's own, as a function
    of rows that are brought to it."""
    sae: Any = create(CrosscoderSpec(places=2, d_sae=6, k=2), 8)
    sae.initialise(torch.Generator().manual_seed(0))
    torch.testing.assert_close(sae.block_norms().sum(1), torch.full((6,), 2**0.5))
    onto = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    (sae.W_dec * onto).pow(2).sum().backward()
    sae.project_decoder_gradient()
    free = sae.W_dec.detach().clone().requires_grad_()
    measure = free.view(6, 2, 4).norm(dim=2).sum(1, keepdim=True)
    (free * 2**0.5 / measure * onto).pow(2).sum().backward()
    torch.testing.assert_close(sae.W_dec.grad, free.grad)


def test_scales_of_places_fold_exactly_and_norms_stay_comparable() -> None:
    world = TwoModels(3)
    sae = trained(CrosscoderSpec(places=2, d_sae=16, k=3), world, 30, 128).double()
    x = world.batch(200).double()
    factor = torch.tensor([2.0, 0.5]).double().repeat_interleave(WIDTH)
    codes, wanted, norms = sae.encode(x * factor), sae(x * factor) / factor, sae.relative_norms()
    sae.rescale(factor, factor)
    assert torch.equal(sae.encode(x).indices, codes.indices)
    torch.testing.assert_close(sae(x), wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(sae.relative_norms(), norms)


def test_classes_and_refusals() -> None:
    relative = torch.tensor([[1.0, 0.05], [0.3, 1.0], [0.9, 1.0], [0.0, 1.0]])
    assert classes(relative) == [
        LatentClass.EXCLUSIVE,
        LatentClass.WEAK,
        LatentClass.SHARED,
        LatentClass.EXCLUSIVE,
    ]
    lists = [row.tolist() for row in 3 * relative]
    assert [class_of_norms(norms) for norms in lists] == classes(relative)
    assert class_of_norms([0.0, 0.0]) is None and class_of_norms([2.0]) is None
    torch.testing.assert_close(delta(relative), torch.tensor([0.025, 0.85, 0.55, 1.0]))
    with pytest.raises(ValueError, match="of two places"):
        delta(torch.ones(3, 3))
    with pytest.raises(ValueError, match="does not divide by 3"):
        create(CrosscoderSpec(places=3), 8)
    with pytest.raises(DataError, match="one width"):
        create(CrosscoderSpec(places=2), 8).check_widths([5, 3], [5, 3])
