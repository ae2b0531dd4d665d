"""Surprisal: information values by definition, whatever the batch."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import torch

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.interp.host_text import HostText
from monosemy.interp.prompts.quoting import quote
from monosemy.interp.registry import create_scorer
from monosemy.interp.scorers.base import result_of
from monosemy.interp.scorers.surprisal import NEUTRAL, SurprisalScorer
from monosemy.interp.tools import Tools
from monosemy.saes import registry
from monosemy.specs import ScoringSpec, TopKSpec
from tests.support.interp_examples import negatives, positives, scoring_examples
from tests.support.planted_hosted_sae import long_host

TEXTS = ["The moon.", "Rain fell on the old town all night long, and on the river.", "x", "", "No."]


@pytest.fixture(scope="module", params=["llama", "gemma2", "qwen3"])
def hosted(request: pytest.FixtureRequest, tiny_tokenizer: Any) -> HostedSAE:
    host = long_host(tiny_tokenizer, request.param)
    sae = registry.create(TopKSpec(d_sae=16, k=2), host.d_model)
    return HostedSAE.at(host, sae, "blocks.1.hook_resid_post")


@pytest.fixture
def scorer(hosted: HostedSAE) -> SurprisalScorer:
    return SurprisalScorer(hosted)


def log_p(scorer: SurprisalScorer, explanation: str, text: str) -> float:
    """By one forward of one row, without anything shared."""
    prefix = scorer.text.prefix(scorer.prompt, explanation=quote(explanation))
    ids = torch.tensor([prefix + scorer.text.tokens(text)])
    logits_SV = scorer.text.host.logits(ids, torch.ones_like(ids))[0].double().log_softmax(-1)
    places = range(len(prefix), ids.shape[1])
    return sum(float(logits_SV[i - 1, ids[0, i]]) for i in places)


def test_information_is_the_difference_of_two_log_probabilities(scorer: SurprisalScorer) -> None:
    information = scorer.information("the weather", TEXTS)
    for text, value in zip(TEXTS, information, strict=True):
        if not text:
            assert value is None
            continue
        wanted = log_p(scorer, "the weather", text) - log_p(scorer, NEUTRAL, text)
        assert value == pytest.approx(wanted, abs=1e-4)
    assert max(abs(value) for value in information if value is not None) > 0.1


def test_batches_and_their_order_do_not_matter(hosted: HostedSAE, scorer: SurprisalScorer) -> None:
    information = scorer.information("the weather", TEXTS)
    alone = [scorer.information("the weather", [text])[0] for text in TEXTS]
    small = SurprisalScorer(hosted)
    small.text = HostText(hosted.host, logits_at_once=1)
    for other in (
        alone,
        small.information("the weather", TEXTS),
        scorer.information("the weather", TEXTS[::-1])[::-1],
        scorer.information("the weather", TEXTS + TEXTS)[len(TEXTS) :],
    ):
        assert other == pytest.approx(information, abs=1e-4)


def test_the_neutral_explanation_says_nothing(scorer: SurprisalScorer) -> None:
    assert scorer.information(NEUTRAL, TEXTS) == [0.0, 0.0, 0.0, None, 0.0]


def test_a_baseline_reads_the_neutral_half_once(scorer: SurprisalScorer) -> None:
    first = scorer.information("the weather", TEXTS)
    scorer.information("cooking", TEXTS)
    assert scorer._neutral.cache_info().misses == 1
    assert scorer.information("the weather", TEXTS) == first


def test_judgements_carry_values_and_their_score_is_an_auroc(scorer: SurprisalScorer) -> None:
    yes, no = positives(5), negatives(4)
    judged = asyncio.run(scorer.judge("names of cities", scoring_examples(yes, no)))
    texts = [example.cropped(16).text.strip() for example in [*yes, *no]]
    assert [judgement.value for judgement in judged.judgements] == scorer.information(
        "names of cities", texts
    )
    assert [judgement.truth for judgement in judged.judgements] == [True] * 5 + [False] * 4
    result = result_of(scorer, judged)
    values = [judgement.value or 0.0 for judgement in judged.judgements]
    above = sum(a > b for a in values[:5] for b in values[5:])
    assert result.value == pytest.approx(above / 20)
    assert result.metric == "auroc"
    assert result.details["parameters"] == {"radius": 16, "neutral": NEUTRAL}
    json.dumps(result.as_details(), allow_nan=False)
    with pytest.raises(DataError, match="needs activating examples and others"):
        asyncio.run(scorer.judge("cities", scoring_examples(yes, [])))


def test_explanations_longer_than_the_context_are_refused(scorer: SurprisalScorer) -> None:
    scorer.text._longest = 60
    with pytest.raises(DataError, match="reads 60"):
        scorer.information("word " * 60, ["The moon."])


def test_specs_reach_the_scorer(hosted: HostedSAE) -> None:
    made = create_scorer(ScoringSpec(scorer="surprisal"), Tools(hosted=hosted))
    assert isinstance(made, SurprisalScorer)
    assert made.text.host is hosted.host
    assert made.tiers(("same_token", "random")) == ("random", "same_token")
    with pytest.raises(DataError, match="GPU worker"):
        create_scorer(ScoringSpec(scorer="surprisal"), Tools())
