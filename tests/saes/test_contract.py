"""What every architecture owes the trainer, the index and the formats: one test for all of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from monosemy.saes.base import SAE
from monosemy.saes.codes import Codes
from monosemy.saes.crosscoder import Crosscoder
from monosemy.saes.gated import GatedSAE
from monosemy.saes.jumprelu import JumpReLUSAE
from monosemy.saes.matching_pursuit import MatchingPursuitSAE
from monosemy.saes.registry import create
from monosemy.specs import ARCHITECTURES, SAESpec, TrainingSpec
from monosemy.training.trainer import SAETrainer

D, F, N = 12, 42, 300
PLACES = 3
"""Of architectures that tell them apart."""

ELSEWHERE = " elsewhere"
"""Ends the name of a case in which the SAE reconstructs other vectors than it reads."""

SKIP = " with a skip matrix" + ELSEWHERE

CASES = [
    case
    for name in sorted(ARCHITECTURES)
    for case in (name, name + ELSEWHERE, name + SKIP)
    if not case.endswith(ELSEWHERE) or ARCHITECTURES[name]().only_where_it_reads is None
    if not case.endswith(SKIP) or "skip" in ARCHITECTURES[name].model_fields
]

pytestmark = pytest.mark.parametrize("name", CASES)


def spec_of(name: str, **more: Any) -> SAESpec:
    options: dict[str, Any] = {"d_sae": F, "dead_after_tokens": 900, **more}
    if name.endswith(SKIP):
        options["skip"] = True
    name = name.removesuffix(SKIP).removesuffix(ELSEWHERE)
    fields = ARCHITECTURES[name].model_fields
    if "k" in fields:
        options["k"] = 4
    if "target_l0" in fields:
        options["target_l0"] = 4.0
    if "places" in fields:
        options["places"] = PLACES
    if "prefixes" in fields:
        options["prefixes"] = [8, 20]
    return ARCHITECTURES[name](**options)


def widths(name: str) -> tuple[int, int | None]:
    return (D, 9 if name.endswith(ELSEWHERE) else None)


def made(name: str, **more: Any) -> SAE:
    sae = create(spec_of(name, **more), *widths(name))
    sae.initialise(torch.Generator().manual_seed(0))
    return sae


def batches(name: str, count: int, scale: float = 1.0) -> list[tuple[Tensor, Tensor | None]]:
    """Sparse sums of fixed directions, so that there is something to learn."""
    generator = torch.Generator().manual_seed(1)
    atoms = torch.nn.functional.normalize(torch.randn(24, D, generator=generator), dim=1)
    onto = torch.randn(D, 9, generator=generator)
    drawn = []
    for _ in range(count):
        firing = torch.rand(N, 24, generator=generator) < 0.12
        x = (firing * (1 + torch.rand(N, 24, generator=generator))) @ atoms * D**0.5 / 2
        drawn.append((x * scale, x @ onto * scale if widths(name)[1] else None))
    return drawn


def trained(name: str, steps: int = 60, frozen: bool = False, **more: Any) -> SAETrainer:
    trainer = SAETrainer(made(name, **more), TrainingSpec(), frozen_decoder=frozen)
    for number, (x, target) in enumerate(batches(name, steps)):
        trainer.step(x, number, 3e-3, steps, target)
    return trainer


def length(sae: SAE) -> Tensor:
    """Of decoder rows, in the measure in which the architecture keeps them at 1."""
    if isinstance(sae, Crosscoder):
        return sae.block_norms().sum(1) / PLACES**0.5
    return sae.decoder_norms()


def test_training_lowers_the_loss_and_keeps_the_rows(name: str) -> None:
    data = batches(name, 1)[0]
    before = trained(name, 1).readings()["fvu"]
    trainer = trained(name)
    after = trainer.readings()
    assert after["fvu"] < 0.8 * before, (before, after)
    assert 0 < after["l0"] <= F
    torch.testing.assert_close(length(trainer.sae), torch.ones(F))
    assert trainer.sae(data[0]).shape == (N, trainer.sae.d_out)
    assert 0 < float(trainer.density.sum()) <= F


def test_a_frozen_decoder_never_moves(name: str) -> None:
    before = made(name).decoder_rows(slice(None)).clone()
    frozen = trained(name, 20, frozen=True)
    assert torch.equal(frozen.sae.decoder_rows(slice(None)), before)
    assert frozen.readings()["fvu"] > trained(name, 20).readings()["fvu"]


def test_codes_are_what_a_decoder_can_take(name: str) -> None:
    sae = trained(name).sae
    x = batches(name, 1)[0][0]
    with torch.no_grad():
        sae.calibrate(x)
        codes = sae.encode(x)
        assert codes.indices.dtype == torch.int64 and codes.indices.shape == codes.values.shape
        assert codes.indices.min() >= 0 and codes.indices.max() < F
        assert (codes.values >= 0).all() and codes.l0().float().mean() > 0
        for row, values in zip(codes.indices, codes.values, strict=True):
            active = row[values > 0].tolist()
            assert len(active) == len(set(active)), "an active latent occurs once"
        torch.testing.assert_close(sae.decode(codes, x), sae(x))
        dense = codes.dense(F) @ sae.decoder_rows(slice(None)) + sae.b_dec
        skip = sae.skip_matrix()
        assert (skip is not None) == name.endswith(SKIP)
        if skip is not None:
            assert skip.shape == (sae.d_out, D) and float(skip.norm()) > 0
            dense = dense + x @ skip.T
            with pytest.raises(ValueError, match="with the input at hand"):
                sae.decode(codes)
        torch.testing.assert_close(sae.decode(codes, x), dense, rtol=1e-4, atol=1e-5)
        alone = torch.cat([sae(part) for part in x.split(7)])
        torch.testing.assert_close(alone, sae(x), rtol=1e-4, atol=1e-5)
        assert sae.encode(x[:0]).values.shape[0] == 0


def test_rows_say_what_each_latent_reads_and_writes(name: str) -> None:
    sae = trained(name, 10).sae
    latents = torch.arange(F).flip(0)
    with torch.no_grad():
        one = Codes(latents[:, None], torch.ones(F, 1))
        rows = sae.decoder_rows(latents)
        torch.testing.assert_close(rows, sae.decode_without_bias(one))
        torch.testing.assert_close(sae.decoder_rows(slice(3, 9)), rows.flip(0)[3:9])
        torch.testing.assert_close(sae.decoder_norms(), rows.flip(0).norm(dim=1))
        if isinstance(sae, GatedSAE | MatchingPursuitSAE):
            return  # whose codes are no one product
        x = batches(name, 1)[0][0]
        codes = sae.encode(x, 1)
        into, bias = sae.encoder_rows(codes.indices[:, 0])
        pre = (sae.centre(x) * into).sum(1) + bias
        fires = codes.values[:, 0] > 0
        assert fires.sum() > N / 2
        torch.testing.assert_close(codes.values[fires, 0], pre[fires], rtol=1e-4, atol=1e-5)


def test_a_budget_is_a_bound(name: str) -> None:
    sae = trained(name).sae
    x = batches(name, 1)[0][0]
    with torch.no_grad():
        sae.calibrate(x)
        for budget in (1, 3):
            assert sae.encode(x, budget).l0().max() <= budget
        with pytest.raises(ValueError, match=r"budget|between"):
            sae.encode(x, 0)


def test_the_loss_does_not_depend_on_the_scale_of_the_data(name: str) -> None:
    """At the start, where every weight but the biases, which are 0, is free of scale."""
    sae = made(name)
    losses = []
    for scale in (1.0, 64.0):
        trainer = SAETrainer(made(name), TrainingSpec())
        x, target = batches(name, 1, scale)[0]
        trainer.step(x, 1, 0.0, 10, target)
        losses.append(trainer.readings())
    if isinstance(sae, JumpReLUSAE):  # its thresholds are in units of the data
        return
    assert losses[1]["fvu"] == pytest.approx(losses[0]["fvu"], rel=1e-3)


def test_rescaling_is_exact(name: str) -> None:
    trainer = trained(name)
    sae = trainer.sae
    x = batches(name, 1)[0][0]
    out = 2.0 if widths(name)[1] else 8.0  # powers of 2: no rounding moves a code over a threshold
    with torch.no_grad():
        sae.calibrate(x)
        wanted = sae(x) / out
        sae.rescale(8.0, out)
        torch.testing.assert_close(sae(x / 8.0), wanted, rtol=1e-4, atol=1e-5)


def test_rescaling_each_dimension_for_itself_is_exact(name: str) -> None:
    trainer = trained(name)
    sae = trainer.sae
    if sae.one_scale:
        pytest.skip("it takes one scale alone")
    x = batches(name, 1)[0][0]
    into = torch.linspace(0.5, 8.0, sae.d_in)
    out = torch.linspace(0.25, 4.0, sae.d_out) if sae.transcodes else into
    with torch.no_grad():
        sae.calibrate(x)
        wanted = sae(x) / out
        sae.rescale(into, out)
        alike = torch.isclose(sae(x / into), wanted, rtol=1e-4, atol=1e-4).all(1)
    assert alike.sum() >= N - 2, "all but a code at its threshold, which rounding moves"
    assert 0.3 < float(sae.decoder_norms().mean()) < 3


def test_a_restored_trainer_goes_on_with_the_same_bits(name: str) -> None:
    data = batches(name, 24)
    first = SAETrainer(made(name), TrainingSpec())
    second = SAETrainer(made(name), TrainingSpec())
    for number, (x, target) in enumerate(data[:13]):
        first.step(x, number, 3e-3, 24, target)
    saved = {key: value.clone().contiguous() for key, value in first.state("a").items()}
    second.restore("a", saved)
    for number, (x, target) in enumerate(data[13:], start=13):
        first.step(x, number, 3e-3, 24, target)
        second.step(x, number, 3e-3, 24, target)
    for key, value in first.state("a").items():
        assert torch.equal(value, second.state("a")[key]), key
