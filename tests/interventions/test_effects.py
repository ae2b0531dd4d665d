"""Interventions while the model writes, held to unbatched forwards made by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.interventions.edits import Interventions
from monosemy.interventions.effects import PromptEffects, tune_strength
from monosemy.interventions.generation import last_logits
from monosemy.interventions.intervention import Direction, Feature, ablate, add, replace
from monosemy.models.host import HostModel
from monosemy.saes import registry
from monosemy.specs import TranscoderSpec
from tests.support.planted_hosted_sae import SITE, long_host, planted_hosted_sae

PROMPTS = [(0, 40, 41, 42, 43, 44), (0, 99), (0, 7, 200, 201)]
SEEDS = [11, 12, 13]
TOKEN = 77


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma2"])
def host(request: pytest.FixtureRequest, tiny_tokenizer: Any) -> HostModel:
    return long_host(tiny_tokenizer, request.param)


@pytest.fixture(scope="module")
def hosted(host: HostModel) -> HostedSAE:
    return planted_hosted_sae(host, TOKEN)


def alone(hosted: HostedSAE, row: tuple[int, ...], prompt: int, strength: float) -> Tensor:
    """Log probabilities after one unpadded row, the edit from the prompt's last token on."""
    ids = torch.tensor([row])
    direction = hosted.sae.W_dec[0] / hosted.sae.W_dec[0].norm()

    def edit(acts: Tensor) -> Tensor:
        new = acts.clone()
        new[:, prompt - 1 :] += strength * direction
        return new

    logits = hosted.host.logits(
        ids, torch.ones_like(ids), {hosted.target: edit} if strength else None
    )
    return logits[0, -1].double().log_softmax(-1)


@pytest.mark.parametrize("at_once", [1, 2**25])
def test_predictions_are_those_of_single_rows(hosted: HostedSAE, at_once: int) -> None:
    effects = PromptEffects(hosted, PROMPTS, at_once)
    texts = [prompt + (60, 61)[: i % 3] for i, prompt in enumerate(PROMPTS)]
    places = [
        torch.arange(len(text)) >= len(prompt) - 1
        for text, prompt in zip(texts, PROMPTS, strict=True)
    ]
    for strength in (0.0, 2.5):
        added = add(effects.direction(0), strength)
        change = Interventions([added])
        logits = last_logits(hosted.host, texts, places, [change] * len(texts), at_once)
        written = logits.double().log_softmax(-1)
        for results, rows in ((written, texts), (effects.predictions(added), PROMPTS)):
            for result, row, prompt in zip(results, rows, PROMPTS, strict=True):
                wanted = alone(hosted, row, len(prompt), strength)
                torch.testing.assert_close(result, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kl", [0.1, 0.5, 1.0])
def test_the_strength_reaches_the_wanted_divergence(hosted: HostedSAE, kl: float) -> None:
    intervention, reached = PromptEffects(hosted, PROMPTS).tuned(0, kl)
    assert abs(reached - kl) <= 0.1 * kl
    total = 0.0
    for prompt in PROMPTS:
        clean = alone(hosted, prompt, len(prompt), 0.0)
        edited = alone(hosted, prompt, len(prompt), intervention.strength)
        total += float((edited.exp() * (edited - clean)).sum())
    assert total / len(PROMPTS) == pytest.approx(reached, rel=1e-3)


@pytest.mark.parametrize(
    "curve",
    [
        lambda s: s * s,
        lambda s: 1e-6 * s * s,
        lambda s: 1e5 * s * s,
        lambda s: 2 * (1 - math.exp(-s)),
        lambda s: s**4 if s < 10 else math.nan,
        lambda s: 0.0 if s < 5 else s - 5,
    ],
)
@pytest.mark.parametrize("wanted", [0.1, 1.0, 1.7])
def test_bisection_ends_within_ten_percent(curve: Any, wanted: float) -> None:
    looks: list[float] = []

    def look(strength: float) -> float:
        looks.append(strength)
        return curve(strength)

    strength, divergence = tune_strength(look, wanted, 1.0)
    assert divergence == curve(strength)
    assert abs(divergence - wanted) <= 0.1 * wanted
    assert len(looks) <= 20


def test_a_latent_without_enough_effect_is_refused() -> None:
    for curve in (lambda s: 0.0, lambda s: 0.5, lambda s: math.nan, lambda s: float(s > 3) * 9):
        with pytest.raises(DataError, match="No strength of this latent"):
            tune_strength(curve, 1.0, 1.0)


def test_no_strength_changes_nothing_at_all(hosted: HostedSAE) -> None:
    effects = PromptEffects(hosted, PROMPTS)
    nothing = add(Feature(0), 0.0)
    assert effects.divergence(nothing) == 0.0
    assert effects.continued(5, SEEDS, nothing) == effects.continued(5, SEEDS)


def test_writing_is_gumbel_sampling_with_the_edit_at_every_new_token(hosted: HostedSAE) -> None:
    effects = PromptEffects(hosted, PROMPTS)
    intervention, _ = effects.tuned(0, 1.0)
    for change in (None, intervention):
        written = effects.continued(4, SEEDS, change)
        for prompt, seed, text in zip(PROMPTS, SEEDS, written, strict=True):
            noise, row = torch.Generator().manual_seed(seed), prompt
            for _ in range(4):
                log_p = alone(hosted, row, len(prompt), change.strength if change else 0.0)
                uniform = torch.rand(len(log_p), generator=noise, dtype=torch.float64)
                row = (*row, int((log_p - torch.log(-torch.log(uniform))).argmax()))
            assert text == row[len(prompt) :]
    assert effects.continued(4, SEEDS, intervention) == effects.continued(4, SEEDS, intervention)
    # Neither order nor company matters.
    backwards = PromptEffects(hosted, PROMPTS[::-1]).continued(4, SEEDS[::-1], intervention)
    assert backwards[::-1] == effects.continued(4, SEEDS, intervention)
    assert effects.continued(4, [1, 2, 3]) != effects.continued(4, [4, 5, 6])


def test_samples_follow_the_models_probabilities(hosted: HostedSAE) -> None:
    count = 4000
    effects = PromptEffects(hosted, [PROMPTS[0]] * count)
    drawn = torch.tensor([text[0] for text in effects.continued(1, range(count))])
    p_V = alone(hosted, PROMPTS[0], 6, 0.0).exp()
    best_V = p_V.argsort(descending=True)[:20]
    counts = torch.bincount(drawn, minlength=len(p_V)).double()
    likely = best_V[p_V[best_V] * count > 20]
    assert len(likely) >= 3
    error = (p_V[likely] * (1 - p_V[likely]) * count).sqrt()
    assert ((counts[likely] - p_V[likely] * count).abs() / error).max() < 4.5


def test_an_amplified_direction_writes_its_token(hosted: HostedSAE) -> None:
    effects = PromptEffects(hosted, PROMPTS * 10)
    intervention, _ = effects.tuned(0, 1.0)
    seeds = range(len(PROMPTS) * 10)
    share = [
        sum(text.count(TOKEN) for text in effects.continued(8, seeds, change)) / (8 * len(seeds))
        for change in (None, intervention)
    ]
    assert share[1] > 0.05 > 5 * share[0], share


def test_ablation_takes_out_one_latent_and_keeps_the_error(hosted: HostedSAE) -> None:
    where_BS = torch.tensor([[False, False, True, True, True, True]])
    ids = torch.tensor([PROMPTS[0]])
    latent = int(
        hosted.sae.encode(hosted.host.capture(ids, torch.ones_like(ids), [SITE])[SITE][0])[0][3, 0]
    )

    def without(x_ND: Tensor) -> Tensor:
        codes = hosted.sae.encode(x_ND)
        kept = codes._replace(values=codes.values * (codes.indices != latent))
        return hosted.sae.decode(kept)

    def spliced(acts_BSD: Tensor) -> Tensor:
        flat = acts_BSD[0]
        new = (without(flat) + flat - hosted.sae(flat))[None]
        return torch.where(where_BS[..., None], new, acts_BSD)

    mask = torch.ones_like(ids)
    wanted = hosted.host.logits(ids, mask, {SITE: spliced})
    ablation = Interventions([ablate(Feature(latent))], hosted)
    changed = hosted.host.logits(ids, mask, ablation.edits(where_BS))
    torch.testing.assert_close(changed, wanted, atol=1e-4, rtol=1e-4)
    clean = hosted.host.logits(ids, mask)
    assert (changed - clean).abs().max() > 1e-3
    assert torch.equal(changed[:, :2], clean[:, :2])
    nowhere = torch.zeros_like(where_BS)
    assert torch.equal(
        hosted.host.logits(ids, mask, ablation.edits(nowhere)),
        clean,
    )


def test_transcoders_are_intervened_on_where_they_write(host: HostModel) -> None:
    reads, writes = "blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out"
    spec = TranscoderSpec(d_sae=16, k=3, target_site=writes)
    sae = registry.create(spec, host.d_model, host.d_model)
    sae.initialise(torch.Generator().manual_seed(1))
    hosted = HostedSAE.at(host, sae, reads, writes)
    ids = torch.tensor([PROMPTS[0]])
    mask = torch.ones_like(ids)
    where_BS = torch.tensor([[False] * 4 + [True] * 2])
    assert set(Interventions([add(Feature(3), 2.0)], hosted).edits(where_BS)) == {writes}
    read = host.capture(ids, mask, [reads])[reads][0]
    codes = sae.encode(read)
    latent = int(codes.indices[4, 0])
    value_S = (codes.values * (codes.indices == latent)).sum(-1)
    part = torch.where(where_BS[0][:, None], value_S[:, None] * sae.W_dec[latent], 0.0)[None]
    wanted = host.logits(ids, mask, {writes: lambda acts: acts - part})
    changed = host.logits(
        ids, mask, Interventions([ablate(Feature(latent))], hosted).edits(where_BS)
    )
    torch.testing.assert_close(changed, wanted, atol=1e-4, rtol=1e-4)
    assert (changed - host.logits(ids, mask)).abs().max() > 1e-3
    zeroed = Interventions([replace(Direction((1.0,) * 32, writes), 0.0)]).edits(where_BS)
    assert (host.logits(ids, mask, zeroed) - changed).abs().max() > 1e-3


def test_hosted_saes_know_their_latents(hosted: HostedSAE) -> None:
    assert float(hosted.direction(0).norm()) == pytest.approx(1.0)
    with pytest.raises(DataError, match="has 16 latents"):
        hosted.direction(16)
    with pytest.raises(DataError, match="at least one token"):
        PromptEffects(hosted, [(0, 1), ()])
