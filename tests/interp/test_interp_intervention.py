"""Intervention scores of a planted latent, by readers whose answer is known."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.interp.host_text import HostText, Ids
from monosemy.interp.prompts.loader import Prompt
from monosemy.interp.registry import create_scorer
from monosemy.interp.scorers.base import ScoringExamples, result_of
from monosemy.interp.scorers.intervention import InterventionScorer
from monosemy.interp.scorers.result import Judged
from monosemy.interp.tools import Tools
from monosemy.interventions.effects import PromptEffects
from monosemy.interventions.intervention import Feature, add
from monosemy.specs import InterventionSpec, ScoringSpec
from tests.support.interp_examples import CITIES, example, positives, scoring_examples
from tests.support.planted_hosted_sae import long_host, planted_hosted_sae

SPEC = InterventionSpec(kl=0.9, new_tokens=8)
EXAMPLES = ScoringExamples(0, tuple(positives()), {})


class Counting:
    """Stands for a reader: p(z | passage) = (1 + how often z occurs) / (2 + all characters)."""

    def __init__(self, text: HostText) -> None:
        self.host = text.host
        self.passages: list[str] = []

    def tokens(self, text: str) -> Ids:
        return tuple(text.encode())

    def prefix(self, prompt: Prompt, *, fence: str, passage: str) -> Ids:
        self.passages.append(json.loads(passage))
        return tuple(json.loads(passage).encode())

    def log_probabilities(self, pairs: list[tuple[Ids, Ids]]) -> list[float]:
        return [log_p(bytes(text).decode(), bytes(prefix).decode()) for prefix, text in pairs]


def log_p(explanation: str, passage: str) -> float:
    return math.log((1 + passage.count(explanation)) / (2 + len(passage)))


@pytest.fixture(scope="module")
def word(tiny_tokenizer: Any) -> str:
    """A word that is one token of the tiny vocabulary and in none of the contexts."""
    words = (tiny_tokenizer.decode([i]) for i in range(260, len(tiny_tokenizer)))
    return next(w for w in words if w.isalpha() and len(w) > 3 and w not in "".join(CITIES))


@pytest.fixture(scope="module")
def hosted(tiny_tokenizer: Any, word: str) -> HostedSAE:
    (token,) = tiny_tokenizer(word, add_special_tokens=False)["input_ids"]
    return planted_hosted_sae(long_host(tiny_tokenizer), token)


def counting(hosted: HostedSAE, spec: InterventionSpec = SPEC, seed: int = 0) -> InterventionScorer:
    scorer = InterventionScorer(hosted, spec, seed)
    scorer.reader = Counting(scorer.text)  # type: ignore[assignment]
    return scorer


def judge(
    scorer: InterventionScorer, explanation: str, examples: ScoringExamples = EXAMPLES
) -> Judged:
    return asyncio.run(scorer.judge(explanation, examples))


def test_the_right_explanation_beats_a_wrong_one(hosted: HostedSAE, word: str) -> None:
    scorer = counting(hosted)
    right = result_of(scorer, judge(scorer, word))
    wrong = result_of(scorer, judge(scorer, "bridges"))
    assert right.low > 0.1 > wrong.high
    assert right.metric == "mean_surprisal_change"
    assert (right.n, right.n_failed, right.worst_case) == (len(CITIES), 0, None)
    assert abs(right.details["kl"] - 0.9) <= 0.09
    assert right.details["strength"] > 0
    assert len(right.details["texts"]) == 3
    json.dumps(right.with_baseline(wrong).as_details(), allow_nan=False)
    assert right.with_baseline(wrong).chance_normalised is None


def test_values_are_changes_of_log_probability_on_one_passage_each(
    hosted: HostedSAE, word: str
) -> None:
    scorer = counting(hosted)
    judged = judge(scorer, word)
    passages = scorer.reader.passages  # type: ignore[attr-defined]
    half = len(CITIES)
    for i, judgement in enumerate(judged.judgements):
        before = CITIES[i].split("<<")[0].rstrip()
        assert passages[i].startswith(before)
        assert passages[half + i].startswith(before)
        assert CITIES[i].split("<<")[1][:5] not in passages[i]
        wanted = log_p(word, passages[i]) - log_p(word, passages[half + i])
        assert judgement.value == pytest.approx(wanted, abs=1e-12)


def test_the_same_seed_gives_the_same_judgements_and_another_others(
    hosted: HostedSAE, word: str
) -> None:
    first = judge(counting(hosted), word)
    assert judge(counting(hosted), word) == first
    assert judge(counting(hosted, seed=1), word) != first
    # Whose company an example is judged in changes the strength alone.
    texts = counting(hosted)
    (judge(texts, word), judge(texts, "bridges"))
    assert texts._written.cache_info().misses == 1


def test_no_strength_is_no_change(
    hosted: HostedSAE, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        PromptEffects, "tuned", lambda self, latent, kl: (add(Feature(latent), 0.0), 0.0)
    )
    scorer = InterventionScorer(hosted, SPEC)  # read by the host model itself
    result = result_of(scorer, judge(scorer, word))
    assert [judgement.value for judgement in result.judgements] == [0.0] * len(CITIES)
    assert (result.value, result.low, result.high) == (0.0, 0.0, 0.0)


def test_ablation_cuts_after_the_first_activation_and_turns_the_sign(
    hosted: HostedSAE, word: str
) -> None:
    scorer = counting(hosted, InterventionSpec(mode="zero", new_tokens=4))
    judged = judge(scorer, word)
    passages = scorer.reader.passages  # type: ignore[attr-defined]
    half = len(CITIES)
    for i, judgement in enumerate(judged.judgements):
        until = CITIES[i].split(">>")[0].replace("<<", "")
        assert passages[i].startswith(until)
        wanted = log_p(word, passages[half + i]) - log_p(word, passages[i])
        assert judgement.value == pytest.approx(wanted, abs=1e-12)
    assert judged.details["strength"] is None
    assert judged.details["kl"] >= 0


def test_contexts_without_text_before_the_activation_fail(hosted: HostedSAE, word: str) -> None:
    at_once = example(50, "<<Paris>> is a city.")
    judged = judge(counting(hosted), word, scoring_examples([*positives(3), at_once], []))
    assert [judgement.failed for judgement in judged.judgements] == [False] * 3 + [True]
    with pytest.raises(DataError, match="1 of 2 contexts"):
        judge(counting(hosted), word, scoring_examples([positives(1)[0], at_once], []))
    with pytest.raises(DataError, match="empty explanation"):
        judge(counting(hosted), "  ")


def test_fewer_prompts_are_spread_over_the_strata(hosted: HostedSAE, word: str) -> None:
    spec = InterventionSpec(kl=0.9, new_tokens=1, prompts=3)
    judged = judge(counting(hosted, spec), word)
    rows = [judgement.row for judgement in judged.judgements]
    assert len(rows) == 3
    assert (rows[0], rows[-1]) == (0, len(CITIES) - 1)


def test_specs_reach_the_scorer(hosted: HostedSAE) -> None:
    made = create_scorer(
        ScoringSpec(scorer="intervention", intervention=SPEC, seed=5), Tools(hosted=hosted)
    )
    assert isinstance(made, InterventionScorer)
    assert (made.spec, made.seed, made.hosted, made.tiers(("same_token",))) == (SPEC, 5, hosted, ())
    parameters = made.provenance()["parameters"]
    assert (parameters["kl"], parameters["seed"], parameters["writes_to"]) == (0.9, 5, hosted.site)
    with pytest.raises(DataError, match="GPU worker"):
        create_scorer(ScoringSpec(scorer="intervention"), Tools())
