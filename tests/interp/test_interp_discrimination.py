"""Discrimination on a planted text: some explanations name their word, some are too coarse."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from monosemy.data.splits import TEST, explanation_split
from monosemy.data.token_bytes import TokenBytes
from monosemy.errors import DataError
from monosemy.interp.discrimination import nearest_explanations, tell_nearest
from monosemy.interp.duplicate_labels import duplicate_labels
from monosemy.interp.judging.judge import Judge
from monosemy.interp.labelling import score_explanations
from monosemy.interp.report.build import Extras, build_report
from monosemy.interp.report.page import report_page
from monosemy.interp.scorers.discrimination import DiscriminationScorer
from monosemy.interp.scorers.result import ScoreResult
from monosemy.interp.texts import FeatureTexts
from monosemy.interp.tiers import NEAREST_EXPLANATIONS
from monosemy.progress import SILENT
from monosemy.specs import IndexingSpec, JudgeSpec, ScoringSpec
from tests.support.planted_index import PlantedStore, plant
from tests.support.score_rows import report_table
from tests.support.stub_server import Answer, Request, StubServer, asked_about, good, texts_asked

DOCUMENTS, ROW, WORDS = 300, 12, 30
EXPLANATIONS = {0: "w0 here", 1: "w1 here", 2: "w2 w3 there", 3: "w2 w3 there", 4: "w4 here"}
"""Feature i fires wherever word i stands; 2 and 3 have the same explanation, true of both."""


class Store(PlantedStore):
    def token_bytes(self) -> TokenBytes:
        return TokenBytes([f" w{i}".encode() for i in range(WORDS)])


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> FeatureTexts:
    n = DOCUMENTS * ROW
    documents = np.arange(DOCUMENTS)
    tokens = np.random.default_rng(1).integers(0, WORDS, n)
    store: Any = Store(tokens, [ROW] * DOCUMENTS, documents.tolist())
    rng = np.random.default_rng(0)
    dense = np.where(tokens[:, None] == np.arange(6), rng.gamma(2.0, 3.0, (n, 6)) + 0.1, -1.0)
    planted = plant(dense, [ROW] * DOCUMENTS, documents.tolist())._replace(store=store)
    planted.source.store = store
    store.folder = tmp_path_factory.mktemp("store")
    spec = IndexingSpec(window=3, top_examples=4, quantile_examples=2)
    return FeatureTexts(planted.build(tmp_path_factory.mktemp("nearest") / "index", spec), store)


async def embed(embedded: Sequence[str]) -> np.ndarray[Any, Any]:
    """Counts of words: one axis for each of w0 to w29, one for "here", one for "there"."""
    vectors = np.full((len(embedded), WORDS + 2), 0.01, np.float32)
    for row, text in zip(vectors, embedded, strict=True):
        for word in text.split():
            place = {"here": WORDS, "there": WORDS + 1}.get(word)
            row[int(word[1:]) if place is None else place] += 1
    return vectors


def judge(request: Request) -> Answer:
    """Right by the letter: a text fits if one of the explanation's words is in it."""
    words = set(re.findall(r"w\d+", asked_about(request)))
    return good(**{name: bool(words & set(t.split())) for name, t in texts_asked(request).items()})


def score(texts: FeatureTexts, spec: ScoringSpec) -> dict[int, ScoreResult]:
    results: dict[int, ScoreResult] = {}

    async def run(url: str) -> None:
        async with Judge(url, None, "stub", JudgeSpec(concurrency=4)) as client:
            scorer = DiscriminationScorer(client)
            await score_explanations(
                texts,
                EXPLANATIONS,
                list(EXPLANATIONS),
                spec,
                scorer,
                results.__setitem__,
                SILENT,
            )

    with StubServer(respond=judge) as stub:
        asyncio.run(run(stub.url))
    return results


def nearest_of_all(k: int) -> dict[int, list[tuple[int, float]]]:
    vectors = asyncio.run(embed(list(EXPLANATIONS.values())))
    return nearest_explanations(list(EXPLANATIONS), vectors, k)


def test_who_is_nearest() -> None:
    nearest = nearest_of_all(2)
    assert nearest[2][0][0] == 3 and nearest[2][0][1] == pytest.approx(1.0)
    assert [feature for feature, _ in nearest[0]] == [1, 4]
    assert nearest[0][0][1] == pytest.approx(0.5, abs=0.05)
    assert all(feature not in dict(near) for feature, near in nearest.items())
    assert nearest_explanations([7], np.ones((1, 3))) == {7: []}
    with pytest.raises(DataError, match="different features"):
        nearest_explanations([1, 1], np.ones((2, 3)))


def test_texts_of_the_nearest_in_which_the_feature_is_silent(texts: FeatureTexts) -> None:
    texts.know_nearest({0: [(3, 0.875), (1, 0.5)]})
    examples = texts.to_score(0, ScoringSpec(negatives=12), (NEAREST_EXPLANATIONS,))
    negatives = examples.negatives[NEAREST_EXPLANATIONS]
    assert len(negatives) == 12
    groups = {"neighbour 3 explanation 0.88": "w3", "neighbour 1 explanation 0.50": "w1"}
    splits = explanation_split(texts.store.document_hash)
    for shown in negatives:
        assert groups[str(shown.group)] in shown.text.split()
        assert "w0" not in shown.text.split() and shown.peak == 0
        assert splits[shown.document] == TEST
    assert {str(shown.group) for shown in negatives} == set(groups)
    assert all("w0" in shown.text.split() for shown in examples.activating)
    assert texts.to_score(4, ScoringSpec(), (NEAREST_EXPLANATIONS,)).negatives == {
        NEAREST_EXPLANATIONS: ()
    }


def test_nobody_has_said_who_is_nearest(texts: FeatureTexts) -> None:
    fresh = FeatureTexts(texts.reader, texts.store)
    with pytest.raises(DataError, match="know_nearest"):
        fresh.to_score(0, ScoringSpec(), (NEAREST_EXPLANATIONS,))


def test_a_coarse_label_cannot_be_told_from_its_double(texts: FeatureTexts) -> None:
    texts.know_nearest(nearest_of_all(1))
    results = score(texts, ScoringSpec(positives=10, negatives=10))
    for feature, result in results.items():
        assert result.scorer == "discrimination" and result.metric == "balanced_accuracy"
        assert (result.n, result.n_failed) == (20, 0)
        assert result.low <= result.value <= result.high  # type: ignore[operator]
        coarse = feature in (2, 3)
        # It says yes to all of its own, and to all of its double's.
        assert result.value == (0.5 if coarse else 1.0)
        assert result.details["tpr"]["value"] == 1.0
        assert result.details["tnr"]["value"] == (0.0 if coarse else 1.0)
        (neighbour,) = result.details["neighbours"]
        assert neighbour.startswith(f"neighbour {nearest_of_all(1)[feature][0][0]} explanation")
        assert result.baseline is not None


def test_the_report_shows_what_discriminates(texts: FeatureTexts) -> None:
    """From real scoring, over real HTTP, to the page."""
    texts.know_nearest(nearest_of_all(1))
    scores = score(texts, ScoringSpec(positives=10, negatives=10, empty_baseline=True))
    labels = duplicate_labels(list(EXPLANATIONS), list(EXPLANATIONS.values()))
    extras = Extras(duplicates=labels)
    report = build_report(report_table(EXPLANATIONS, scores), extras=extras)
    section = report["scorers"]["discrimination"]
    assert section["series"]["own"]["median"]["value"] == 1.0
    assert section["series"]["own"]["mean"]["value"] == pytest.approx((3 * 1.0 + 2 * 0.5) / 5)
    # The judge finds no word in "(no explanation)" and says no to all.
    assert section["series"]["empty"]["mean"]["value"] == 0.5
    assert (
        section["worst"][0]["feature"] == 2 and section["worst"][0]["explanation"] == "w2 w3 there"
    )
    # Five features by three explanations, four calls each; and the probe of what the judge can.
    tokens = sum(each["prompt_tokens"] for each in section["cost"].values())
    assert 5 * tokens == pytest.approx(100 * (5 * 3 * 4 + 1))
    assert section["cost"]["baselines"]["prompt_tokens"] == pytest.approx(800)
    (cluster,) = report["duplicates"]["clusters"]
    assert cluster["features"] == [2, 3] and cluster["exact"]
    assert "2 of 5 features (40\u2009%) share" in report_page(report)


def test_one_explanation_has_no_neighbours(texts: FeatureTexts) -> None:
    with pytest.raises(DataError, match="two explained"):
        asyncio.run(tell_nearest(texts, {0: "w0"}, embed))
