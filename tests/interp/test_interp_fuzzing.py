"""Fuzzing: wrong marks that only the meaning gives away."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

from monosemy.data.splits import TEST, explanation_split
from monosemy.data.token_bytes import TokenBytes
from monosemy.errors import DataError
from monosemy.interp.judging.judge import Judge
from monosemy.interp.scorers.base import ScoringExamples, result_of
from monosemy.interp.scorers.fuzzing import FuzzingScorer
from monosemy.interp.scorers.result import ScoreResult
from monosemy.interp.shown import ShownExample
from monosemy.interp.texts import FeatureTexts
from monosemy.interp.tiers import MIS_MARKED
from monosemy.specs import IndexingSpec, JudgeSpec, ScoringSpec
from tests.support.interp_examples import example, scoring_examples
from tests.support.planted_index import PlantedStore, plant
from tests.support.stub_server import Answer, Request, StubServer, good, texts_asked

N_DOCUMENTS, ROWS_EACH, ROW, FEATURES, WORDS = 150, 2, 60, 24, 50
SPEC = ScoringSpec(scorer="fuzzing", positives=20, negatives=20)


class Store(PlantedStore):
    def token_bytes(self) -> TokenBytes:
        # Every third word is one character in two tokens' bytes: it stands whole in the first.
        words = [f" w{i}x".encode() for i in range(WORDS)]
        words[3::9] = [" é".encode()[:2]] * len(words[3::9])
        words[4::9] = [" é".encode()[2:]] * len(words[4::9])
        return TokenBytes(words)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> FeatureTexts:
    """Features that fire on single words or on runs of up to four, a twentieth of the tokens."""
    n = N_DOCUMENTS * ROWS_EACH * ROW
    documents = np.repeat(np.arange(N_DOCUMENTS), ROWS_EACH)
    rng = np.random.default_rng(0)
    store: Any = Store(rng.integers(0, WORDS, n), [ROW] * len(documents), documents.tolist())
    dense = np.full((n, FEATURES), -1.0)
    for feature in range(FEATURES):
        for start in np.flatnonzero(rng.random(n) < 0.02):
            run = slice(start, start + 1 + feature % 4)
            dense[run, feature] = rng.gamma(2.0, 3.0, len(dense[run])) + 0.1
    planted = plant(dense, [ROW] * len(documents), documents.tolist())._replace(store=store)
    planted.source.store = store
    spec = IndexingSpec(window=8, top_examples=4, quantile_examples=2)
    return FeatureTexts(planted.build(tmp_path_factory.mktemp("fuzz") / "index", spec), store)


@pytest.fixture(scope="module")
def scored(texts: FeatureTexts) -> list[ScoringExamples]:
    return [texts.to_score(feature, SPEC, (MIS_MARKED,)) for feature in range(FEATURES)]


def places(shown: ShownExample) -> tuple[int, ...]:
    assert shown.marks is not None
    return tuple(np.flatnonzero(shown.marks).tolist())


def active(shown: ShownExample) -> set[int]:
    return {place for place, level in enumerate(shown.levels) if level > 0}


def test_right_marks_are_on_firings_and_wrong_ones_beside_them(
    scored: list[ScoringExamples],
) -> None:
    for result in scored:
        wrong = result.negatives[MIS_MARKED]
        assert len(result.activating) == len(wrong) >= 10
        for right in result.activating:
            assert set(places(right)) <= active(right) and right.centre in active(right)
        for each in wrong:
            assert not set(places(each)) & active(each)
            assert active(each), "the text does activate the feature"
            assert each.levels[each.centre] > 0


def test_marks_tell_nothing_by_number_or_place(scored: list[ScoringExamples]) -> None:
    """The very same sets of places occur in both classes, so no classifier of them can succeed."""
    for result in scored:
        right = Counter((len(e.pieces), places(e)) for e in result.activating)
        wrong = Counter((len(e.pieces), places(e)) for e in result.negatives[MIS_MARKED])
        assert right == wrong


def test_a_classifier_of_places_is_at_chance(scored: list[ScoringExamples]) -> None:
    """Fitted on some features and tried on the others, as a judge that has learnt a habit.  On the
    marks that are common elsewhere (silent texts, marked at three quarters) it does not fail."""
    ours = [
        ([places(e) for e in result.activating], [places(e) for e in result.negatives[MIS_MARKED]])
        for result in scored
    ]
    assert abs(places_accuracy(ours) - 0.5) < 0.05
    fixed = [(right, [tuple(range(12, 12 + len(marks))) for marks in right]) for right, _ in ours]
    assert places_accuracy(fixed) > 0.9


def places_accuracy(features: list[tuple[list[Any], list[Any]]]) -> float:
    """Balanced accuracy of naive Bayes over single places and the number of marks."""
    train, test = features[::2], features[1::2]
    counts = [Counter[Any](), Counter[Any]()]
    for pair in train:
        for side, marks in zip(counts, pair, strict=True):
            side.update(sign for each in marks for sign in (*each, f"{len(each)} marks"))
    total = [sum(side.values()) for side in counts]

    def odds(marks: Any) -> float:
        signs = [*marks, f"{len(marks)} marks"]
        shares = [
            [(side[s] + 1) / (n + 50) for s in signs] for side, n in zip(counts, total, strict=True)
        ]
        return float(np.log(shares[0]).sum() - np.log(shares[1]).sum())

    hits = [odds(marks) > 0 for right, _ in test for marks in right]
    rejections = [odds(marks) <= 0 for _, wrong in test for marks in wrong]
    return float(np.mean(hits) + np.mean(rejections)) / 2


def test_texts_come_once_and_out_of_the_scoring_split(
    texts: FeatureTexts, scored: list[ScoringExamples]
) -> None:
    splits = explanation_split(texts.store.document_hash)
    for result in scored:
        shown = [each for _, each in result.with_tiers()]
        assert {splits[each.document] for each in shown} == {TEST}
        assert len({each.row for each in shown}) == len(shown)


def test_it_is_the_same_every_time_and_another_with_another_seed(texts: FeatureTexts) -> None:
    def first(seed: int) -> ScoringExamples:
        return texts.to_score(3, SPEC.model_copy(update={"seed": seed}), (MIS_MARKED,))

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_wrong_marks_stand_alone(texts: FeatureTexts) -> None:
    with pytest.raises(DataError, match="not scored together"):
        texts.to_score(3, SPEC, (MIS_MARKED, "random"))


def score(stub: StubServer, examples: ScoringExamples) -> ScoreResult:
    async def run() -> ScoreResult:
        async with Judge(stub.url, None, "stub", JudgeSpec(concurrency=4)) as judge:
            scorer = FuzzingScorer(judge, texts_per_call=10)
            return result_of(scorer, await scorer.judge("Words of some kind.", examples))

    return asyncio.run(run())


def marked_words(text: str) -> list[str]:
    return re.findall(r"<<(.*?)>>", text)


def named(count: int, wrong: bool) -> list[ShownExample]:
    """Texts in which Paris fires; of the wrong ones another word is marked."""
    made = []
    for number in range(count):
        text = f"The road number {number + 100 * wrong} to<< Paris>> was closed for weeks."
        shown = example(number + 1000 * wrong, text)
        if wrong:
            marks = tuple(piece == " closed" for piece in shown.pieces)
            shown = ShownExample(**{**vars(shown), "marks": marks})
        made.append(shown)
    return made


def test_a_judge_of_the_marks_is_right_and_one_of_the_text_at_chance() -> None:
    examples = scoring_examples(named(20, False), named(20, True), MIS_MARKED)

    def by_marks(request: Request) -> Answer:
        asked = texts_asked(request)
        return good(**{name: marked_words(text) == ["Paris"] for name, text in asked.items()})

    def by_text(request: Request) -> Answer:
        return good(**{name: "Paris" in text for name, text in texts_asked(request).items()})

    with StubServer(respond=by_marks) as stub:
        assert score(stub, examples).value == 1.0
    with StubServer(respond=by_text) as stub:
        result = score(stub, examples)
    assert result.value == 0.5
    assert result.details["tpr"]["value"] == 1.0 and result.details["tnr"]["value"] == 0.0
    assert result.details["prompt"]["name"] == "fuzzing"


def test_the_corpus_cannot_fake_marks() -> None:
    signs = ["<<x>>", "<\u200b<", ">>", '"<<"', "<", "<<"]
    hostile = []
    for number, sign in enumerate(signs):
        shown = example(number, "He wrote it and<< Paris>> stood there.")
        pieces = (*shown.pieces[:2], f" {sign}", *shown.pieces[3:])
        hostile.append(ShownExample(**{**vars(shown), "pieces": pieces}))
    seen: list[str] = []

    def respond(request: Request) -> Answer:
        content = request["messages"][-1]["content"]
        seen.extend(re.findall(r"^t\d+: (\".*\")$", content, re.MULTILINE))
        return good(**dict.fromkeys(texts_asked(request), True))

    with StubServer(respond=respond) as stub:
        score(stub, scoring_examples(hostile, named(4, True), MIS_MARKED))
    assert len(seen) == len(signs) + 4
    for text in seen:
        assert len(marked_words(text)) == 1, text
