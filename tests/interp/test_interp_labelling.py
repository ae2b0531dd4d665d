"""Which features are explained and scored, and what becomes of the others when one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from monosemy.data.splits import TEST, TRAIN, explanation_split
from monosemy.data.token_bytes import TokenBytes
from monosemy.errors import Cancelled, DataError, JudgeError
from monosemy.index.feature_text import FeatureText
from monosemy.interp.explainers.base import Explanation
from monosemy.interp.judging.failures import AnswerError, EndpointError
from monosemy.interp.judging.usage import Usage
from monosemy.interp.labelling import (
    Tally,
    explain_features,
    score_explanations,
)
from monosemy.interp.scorers.balanced_accuracy import balanced_accuracy
from monosemy.interp.scorers.base import ScoringExamples, judgement_of
from monosemy.interp.scorers.result import Judged, Judgement, ScoreResult, Summary
from monosemy.interp.shuffled_baseline import EMPTY_EXPLANATION
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.texts import MIN_PER_SPLIT, FeatureTexts, choose_features
from monosemy.progress import SILENT, Reporter
from monosemy.specs import ExplanationSpec, FeatureSelection, IndexingSpec, JudgeSpec, ScoringSpec
from tests.support.planted_index import PlantedStore, plant

N_DOCUMENTS, ROWS_EACH, ROW = 120, 3, 10
BOTH, ONLY_EXPLAIN, ONLY_SCORE, RARE = range(0, 4), range(4, 8), range(8, 12), range(12, 16)


class Store(PlantedStore):
    def token_bytes(self) -> TokenBytes:
        return TokenBytes([f" w{i}".encode() for i in range(50)])


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> FeatureTexts:
    """Features 0-3 fire in all documents, 4-7 where features are explained, 8-11 where they are
    scored, 12-15 in both but too seldom."""
    n = N_DOCUMENTS * ROWS_EACH * ROW
    documents = np.repeat(np.arange(N_DOCUMENTS), ROWS_EACH)
    lengths = [ROW] * len(documents)
    tokens = np.random.default_rng(1).integers(0, 50, n)  # no two windows alike
    store: Any = Store(tokens, lengths, documents.tolist())
    split = explanation_split(store.document_hash)[np.repeat(documents, ROW)]
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((n, 16)) < 0.15, rng.gamma(2.0, 3.0, (n, 16)) + 0.1, -1.0)
    dense[np.ix_(split != TRAIN, list(ONLY_EXPLAIN))] = -1.0
    dense[np.ix_(split != TEST, list(ONLY_SCORE))] = -1.0
    for feature in RARE:
        for part in (TRAIN, TEST):
            firing = np.flatnonzero((split == part) & (dense[:, feature] > 0))
            dense[firing[MIN_PER_SPLIT - 1 :], feature] = -1.0
    planted = plant(dense, lengths, documents.tolist())._replace(store=store)
    planted.source.store = store
    store.folder = tmp_path_factory.mktemp("store")
    spec = IndexingSpec(window=4, top_examples=4, quantile_examples=2)
    return FeatureTexts(planted.build(tmp_path_factory.mktemp("labels") / "index", spec), store)


def selection(**options: Any) -> FeatureSelection:
    return FeatureSelection(**{"min_postings": 1, "max_density": 1.0, **options})


def test_only_features_that_fire_in_both_splits_are_chosen(texts: FeatureTexts) -> None:
    assert choose_features(texts, selection(count=16)) == list(BOTH)
    for feature in RARE:  # one firing short in each split
        for part in (TRAIN, TEST):
            postings = FeatureText(texts.reader, texts.store, feature).of_split(part).postings
            assert len(postings) == MIN_PER_SPLIT - 1
    few = [choose_features(texts, selection(count=2, seed=seed)) for seed in range(20)]
    assert all(len(chosen) <= 2 and set(chosen) <= set(BOTH) for chosen in few)
    assert len({tuple(chosen) for chosen in few}) > 3
    assert choose_features(texts, selection(count=2, seed=7)) == few[7]


def test_no_feature_that_fires_in_both_splits(texts: FeatureTexts) -> None:
    with pytest.raises(DataError, match="Index more documents"):
        choose_features(texts, selection(count=16, max_density=0.11))  # leaves out 0-3


def test_named_features_are_taken_as_they_are(texts: FeatureTexts) -> None:
    assert choose_features(texts, selection(indices=[9, 4])) == [9, 4]


def test_what_explains_never_scores(texts: FeatureTexts) -> None:
    splits = explanation_split(texts.store.document_hash)
    for feature in BOTH:
        shown = texts.to_explain(feature, ExplanationSpec(), Labeller())
        examples = texts.to_score(feature, ScoringSpec())
        assert len(shown.activating) == 10
        assert len(examples.activating) == len(examples.negatives["random"]) == 10
        assert {splits[example.document] for example in shown.activating} == {TRAIN}
        assert {splits[example.document] for _, example in examples.with_tiers()} == {TEST}
        assert min(example.peak for example in examples.activating) > 0
        assert max(example.peak for example in examples.negatives["random"]) == 0


def test_every_tier_that_needs_no_model_is_there(texts: FeatureTexts) -> None:
    """Silent windows of the scoring split, none twice; the scored ones over deciles."""
    splits = explanation_split(texts.store.document_hash)
    spec = ScoringSpec(positives=10, negatives=7)
    tiers = ("random", "same_token", "neighbour")
    for feature in BOTH:
        examples = texts.to_score(feature, spec, tiers)
        assert {example.group for example in examples.activating} == set(range(10))
        every = [example for _, example in examples.with_tiers()]
        assert {splits[example.document] for example in every} == {TEST}
        assert len({example.row for example in every}) == len(every)
        assert tuple(examples.negatives) == tiers
        for tier in tiers:
            assert len(examples.negatives[tier]) == 7
            assert max(example.peak for example in examples.negatives[tier]) == 0
        groups = {str(example.group).split()[0] for example in examples.negatives["neighbour"]}
        assert groups == {"neighbour"}
    with pytest.raises(DataError, match="of the kind 'embedding_far'"):
        texts.to_score(0, spec, ("embedding_far",))


class Labeller:
    """An explainer and a scorer in one; ``faults`` says which features fail, and how."""

    name = "default"
    needs_explanation = True
    wants_contrasts = False
    wants_prompts = False
    validates = False

    def __init__(self, faults: dict[int, Exception] | None = None, pause: float = 0.0) -> None:
        self.faults = faults or {}
        self.pause = pause
        self.asked: list[Any] = []
        self.cancelled = 0

    async def explain(self, evidence: Any, examples: Sequence[Any]) -> Explanation:
        await self._answer(evidence.feature)
        text = f"explanation of {evidence.feature}"
        return Explanation("label", text, "high", {}, Usage(calls=1))

    def tiers(self, asked: Sequence[str]) -> tuple[str, ...]:
        return tuple(asked)

    async def judge(self, explanation: str, examples: ScoringExamples) -> Judged:
        await self._answer(explanation)
        judgements = [
            judgement_of(tier, example, answer=True) for tier, example in examples.with_tiers()
        ]
        return Judged(tuple(judgements), Usage(calls=1))

    def summarise(self, judgements: Sequence[Judgement], z: float = Z95) -> Summary:
        return balanced_accuracy(judgements, "random", z)

    def provenance(self) -> dict[str, Any]:
        return {}

    async def _answer(self, about: Any) -> None:
        self.asked.append(about)
        if about in self.faults:
            raise self.faults[about]
        try:
            await asyncio.sleep(self.pause)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def explain(
    texts: FeatureTexts,
    features: Sequence[int],
    labeller: Labeller,
    reporter: Reporter = SILENT,
    skipped: int = 0,
) -> tuple[Tally, dict[int, str]]:
    stored: dict[int, str] = {}
    spec = ExplanationSpec(judge=JudgeSpec(concurrency=2))

    def keep(feature: int, explanation: Explanation) -> None:
        stored[feature] = explanation.text

    work = explain_features(texts, features, spec, labeller, keep, reporter, skipped)
    return asyncio.run(work), stored


def test_failures_are_listed_and_never_made_up(texts: FeatureTexts) -> None:
    faults: dict[int, Exception] = {
        1: AnswerError("no usable answer", Usage(calls=3, failures=1)),
        4: DataError("nothing to show"),
    }
    tally, stored = explain(texts, [0, 1, 2, 4, 3], Labeller(faults))
    assert sorted(stored) == [0, 2, 3]
    assert all(text == f"explanation of {feature}" for feature, text in stored.items())
    assert tally.as_dict()["failures"] == {"1": "no usable answer", "4": "nothing to show"}
    assert (tally.done, tally.usage.calls, tally.usage.failures) == (3, 6, 1)


def test_every_feature_failing_is_an_error(texts: FeatureTexts) -> None:
    faults: dict[int, Exception] = {0: AnswerError("empty"), 1: AnswerError("empty")}
    with pytest.raises(JudgeError, match=r"None of 2 features could be done\. 0: empty 1: empty"):
        explain(texts, [0, 1], Labeller(faults))
    tally, _ = explain(texts, [0, 1], Labeller(faults), skipped=3)  # earlier ones are there
    assert (tally.done, tally.skipped, len(tally.failures)) == (0, 3, 2)
    assert explain(texts, [], Labeller())[0].done == 0


def test_a_dead_endpoint_ends_it_all(texts: FeatureTexts) -> None:
    """What is under way is dropped, the rest is not begun, what has arrived is kept."""
    labeller = Labeller({2: EndpointError("401")}, pause=0.05)
    stored: dict[int, str] = {}
    spec = ExplanationSpec(judge=JudgeSpec(concurrency=2))
    work = explain_features(
        texts, [0, 1, 2, 3, 4, 5], spec, labeller, lambda f, e: stored.update({f: e.text}), SILENT
    )
    with pytest.raises(EndpointError, match="401"):
        asyncio.run(work)
    assert set(stored) <= {0, 1, 3}
    assert {4, 5}.isdisjoint(labeller.asked)
    assert labeller.cancelled == 1


def test_a_wish_to_stop_ends_it_all(texts: FeatureTexts) -> None:
    labeller = Labeller()
    reporter = Reporter(lambda: Cancelled if len(labeller.asked) >= 3 else None)
    with pytest.raises(Cancelled):
        explain(texts, [0, 1, 2, 3, 4, 5], labeller, reporter)
    assert len(labeller.asked) <= 4


def test_each_borrows_the_explanation_of_another(texts: FeatureTexts) -> None:
    """Also of those that were scored before; they are not scored again."""
    explanations = {feature: f"text {feature}" for feature in BOTH}
    results: dict[int, ScoreResult] = {}
    labeller = Labeller()
    work = score_explanations(
        texts, explanations, [0, 2], ScoringSpec(), labeller, results.__setitem__, SILENT
    )
    tally = asyncio.run(work)
    assert (tally.done, tally.skipped, tally.usage.calls) == (2, 2, 4)
    assert set(results) == {0, 2} and all(result.baseline for result in results.values())
    own = {"text 0", "text 2"}
    assert own <= set(labeller.asked) and len(labeller.asked) == 4
    pairs = list(zip(labeller.asked[::2], labeller.asked[1::2], strict=True))
    assert all(first != second for first, second in pairs)


def test_one_explanation_has_none_to_borrow_from(texts: FeatureTexts) -> None:
    results: dict[int, ScoreResult] = {}
    work = score_explanations(
        texts, {0: "text"}, [0], ScoringSpec(), Labeller(), results.__setitem__, SILENT
    )
    assert asyncio.run(work).done == 1
    assert results[0].baseline is None


def test_an_empty_explanation_is_scored_on_the_same_examples(texts: FeatureTexts) -> None:
    results: dict[int, ScoreResult] = {}
    labeller = Labeller()
    explanations = {feature: f"text {feature}" for feature in BOTH}
    spec = ScoringSpec(empty_baseline=True, judge=JudgeSpec(concurrency=1))
    work = score_explanations(
        texts, explanations, [0, 2], spec, labeller, results.__setitem__, SILENT
    )
    assert asyncio.run(work).usage.calls == 6
    assert labeller.asked[0] == "text 0" and labeller.asked[3] == "text 2"
    assert labeller.asked.count(EMPTY_EXPLANATION) == 2
    for result in results.values():
        assert result.baseline is not None and result.empty is not None
        ids = {judgement.id for judgement in result.judgements}
        assert ids == {judgement.id for judgement in result.empty.judgements}
        details = result.as_details()
        assert details["empty"]["value"] == result.empty.value
        assert details["empty"]["n"] == result.empty.n == 20
        assert len(details["empty"]["judgements"]) == 20
        assert result.total_usage.calls == 3


def test_a_ceiling_without_explanation_has_no_empty_one(texts: FeatureTexts) -> None:
    results: dict[int, ScoreResult] = {}
    labeller = Labeller()
    labeller.needs_explanation = False
    spec = ScoringSpec(empty_baseline=True)
    work = score_explanations(
        texts, {0: "text 0", 1: "text 1"}, [0], spec, labeller, results.__setitem__, SILENT
    )
    asyncio.run(work)
    assert results[0].empty is None and results[0].baseline is None
    assert "empty" not in results[0].as_details()
