"""Known concepts in a known dictionary: found, told from others, and left alone where they are not
(methods 7.4)."""

from __future__ import annotations

from functools import lru_cache
from statistics import mean

import pytest
import torch

from monosemy.concepts.deactivation import Deactivation, score_tokens
from monosemy.concepts.features import Chosen, choose
from monosemy.errors import DataError
from monosemy.interp.statistics.ranks import auroc
from monosemy.specs.concepts import FittedConcept, Scoring
from tests.support.planted_concepts import FEATURES, SHARED, PlantedConcepts

SEEDS = range(4)


@lru_cache
def world(seed: int) -> tuple[PlantedConcepts, Chosen]:
    made = PlantedConcepts(seed)
    return made, choose(made.texts(True, 1), made.texts(False, 4), 8, FEATURES)


def area(seed: int, scale: float, score: Scoring) -> float:
    """On texts that chose nothing."""
    made, chosen = world(seed)
    deactivation = Deactivation(made.sae, dict.fromkeys(chosen.own, scale))
    scores = []
    for targets in (True, False):
        texts = made.texts(targets, 5)
        values_T = deactivation.token_scores(texts.codes, texts.x_TD, score)
        scores.append(texts.each_text(values_T).tolist())
    return auroc(*scores)


def test_what_all_concepts_share_is_never_chosen() -> None:
    for seed in SEEDS:
        made, chosen = world(seed)
        assert SHARED in chosen.all and SHARED not in chosen.own
        own = set(chosen.own)
        assert len(own & made.own) / len(made.own) >= 0.75
        assert own < set(chosen.all)


@pytest.mark.parametrize("scale", [-8.0, 0.0])
def test_texts_are_told_by_either_score(scale: float) -> None:
    for score in ("removed", "error"):
        assert mean(area(seed, scale, score) for seed in SEEDS) > 0.93  # type: ignore[arg-type]


def test_half_a_feature_drowns_in_the_saes_error_but_not_in_what_is_removed() -> None:
    half = mean(area(seed, 0.5, "error") for seed in SEEDS)
    zero = mean(area(seed, 0.0, "error") for seed in SEEDS)
    assert half < zero - 0.15
    assert mean(area(seed, 0.5, "removed") for seed in SEEDS) > 0.93


def test_scores_are_those_of_their_definitions() -> None:
    made, chosen = world(0)
    texts = made.texts(True, 1)
    deactivation = Deactivation(made.sae, dict.fromkeys(chosen.own, -8.0), keep_error=False)
    dense_TF = texts.codes.dense(FEATURES)
    less_TF = dense_TF.clone()
    less_TF[:, list(chosen.own)] *= -8
    made_TD = less_TF @ made.rows_FD
    assert torch.allclose(deactivation.reconstruction(texts.codes, texts.x_TD), made_TD, atol=1e-5)
    removed_T = (made_TD - dense_TF @ made.rows_FD).square().mean(1)
    error_T = (texts.x_TD - made_TD).square().mean(1)
    found = [deactivation.token_scores(texts.codes, texts.x_TD, s) for s in ("removed", "error")]
    assert torch.allclose(found[0], removed_T, atol=1e-4)
    assert torch.allclose(found[1], error_T, atol=1e-4)
    concept = FittedConcept(
        name="it", features=list(chosen.own), threshold=0.0, scale=-8.0, score="error"
    )
    (score,) = score_tokens(made.sae, texts.x_TD[:8], [concept])
    assert score == pytest.approx(float(error_T[:8].max()), rel=1e-4)


def test_of_two_concepts_the_lower_factor_holds_and_one_that_drops_the_error_drops_it() -> None:
    made, _ = world(0)
    one = FittedConcept(name="one", features=[3, 4], threshold=0.0, scale=-2.0)
    two = FittedConcept(name="two", features=[4, 5], threshold=0.0, scale=0.0, keep_error=False)
    both = Deactivation.of(made.sae, [one, two])
    texts = made.texts(True, 1)
    changed = both.changed(texts.codes)
    expected = {3: -3.0, 4: -3.0, 5: -1.0}
    for latent in range(FEATURES):
        at = texts.codes.indices == latent
        less = texts.codes.values[at] * expected.get(latent, 0.0)
        assert torch.allclose(changed.values[at], less)
    assert not both.keep_error and both.latents == {3, 4, 5}
    with pytest.raises(DataError, match="none is number 999"):
        Deactivation(made.sae, {999: 0.0})


def test_without_a_feature_of_its_own_there_is_no_concept() -> None:
    made, _ = world(0)
    texts = made.texts(True, 2)
    with pytest.raises(DataError, match="No feature is left"):
        choose(texts, texts, 8, FEATURES)
