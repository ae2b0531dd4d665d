"""Scorers on the sentence embedder: planted geometry with a known AUROC, and the real model."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from monosemy.errors import DataError
from monosemy.interp.embedder import embed_here
from monosemy.interp.embedding import ThreadedEmbed, embedder_name, unit_vectors
from monosemy.interp.registry import create_scorer
from monosemy.interp.scorers.base import ScoringExamples, result_of
from monosemy.interp.scorers.embedding import EmbeddingScorer
from monosemy.interp.scorers.example_embedding import ExampleEmbeddingScorer, hold_apart
from monosemy.interp.scorers.result import ScoreResult
from monosemy.interp.shown import ShownExample
from monosemy.interp.tools import Tools
from monosemy.specs import ScoringSpec
from tests.support.interp_examples import example, negatives, positives, scoring_examples

EXPLANATION = "planted"

CITIES = [
    "The airport of<< Rome>> was closed for two days by a strike.",
    "In<< Cairo>> the old quarter lies between the citadel and the river.",
    "The orchestra of<< Amsterdam>> gave its last concert of the season.",
    "The metro of<< Moscow>> carries more than six million people a day.",
    "Protesters blocked the main bridge in<< Istanbul>> on Friday.",
    "The mayor of<< Toronto>> promised new trams by the end of the decade.",
    "Heavy smog covered<< Beijing>> and schools stayed closed.",
    "A new tower rises over the harbour of<< Singapore>>.",
]
OTHERS = [
    "The proof follows by induction on the number of vertices.",
    "He tuned the guitar a half step down before the solo.",
    "Wash the wound with clean water and cover it with a bandage.",
    "The goalkeeper saved two penalties in the second half.",
    "Photosynthesis turns light into chemical energy.",
    "Her grandmother knitted a blanket for every newborn child.",
    "The court found that the contract had been broken.",
    "Electrons fill the lowest shells of the atom first.",
]


class Plane:
    """``word a 30`` lies 30 degrees from the explanation, at a length of its own."""

    def __init__(self, bend: Callable[[float], float] = lambda angle: angle) -> None:
        self.bend = bend
        self.asked: list[list[str]] = []

    async def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.asked.append(list(texts))
        return np.array([self.one(text) for text in texts], np.float32)

    def one(self, text: str) -> list[float]:
        angle = 0.0 if text == EXPLANATION else math.radians(self.bend(float(text.split()[-1])))
        length = 1 + len(text)
        return [length * math.cos(angle), length * math.sin(angle), 0.0]


def at(angles: Sequence[float], letter: str, first: int = 0) -> list[ShownExample]:
    group = 0 if letter == "a" else "negative"
    return [
        example(first + i, f"word {letter}<< {angle}>>", group) for i, angle in enumerate(angles)
    ]


def judged(scorer: Any, examples: ScoringExamples, explanation: str = EXPLANATION) -> ScoreResult:
    return result_of(scorer, asyncio.run(scorer.judge(explanation, examples)))


# -------------------------------------------------------------------- embedding
def test_the_score_is_the_area_of_the_planted_angles() -> None:
    yes, no = [10, 20, 50, 70], [40, 60, 70, 80, 170]
    # Pairs with the activating one nearer: 5 + 5 + 4 + 2, and a tie.
    examples = scoring_examples(at(yes, "a"), at(no, "o", 1000))
    embed = Plane()
    result = judged(EmbeddingScorer(embed), examples)
    assert (result.metric, result.scorer) == ("auroc", "embedding")
    assert result.value == pytest.approx((5 + 5 + 4 + 2.5) / 20)
    assert result.low < result.value < result.high
    cosines = [math.cos(math.radians(angle)) for angle in yes + no]
    assert [j.value for j in result.judgements] == pytest.approx(cosines, abs=1e-6)
    assert [j.truth for j in result.judgements] == [True] * 4 + [False] * 5
    assert (result.n, result.n_failed) == (9, 0)
    assert len(embed.asked) == 1  # explanation and contexts together
    assert result.details["texts_embedded"] == len(embed.asked[0]) == 10
    assert result.usage.calls == 0
    json.dumps(result.as_details())


def test_only_the_order_counts() -> None:
    rng = np.random.default_rng(1)
    angles = rng.permutation(np.arange(1, 121) * 1.4).round(1).tolist()
    examples = scoring_examples(at(angles[:50], "a"), at(angles[50:], "o", 1000))
    straight, bent = (
        judged(EmbeddingScorer(Plane(bend)), examples)
        for bend in (lambda angle: angle, lambda angle: 90 + angle**3 / 60000)
    )
    assert straight.value == pytest.approx(bent.value)
    assert (straight.low, straight.high) == pytest.approx((bent.low, bent.high))
    gaps = [
        abs((one.value or 0) - (other.value or 0))
        for one, other in zip(straight.judgements, bent.judgements, strict=True)
    ]
    assert np.mean(gaps) > 0.3
    turned = judged(EmbeddingScorer(Plane(lambda angle: 180 - angle)), examples)
    assert turned.value == pytest.approx(1 - (straight.value or 0))


def test_perfect_and_useless_explanations() -> None:
    yes, no = at(range(1, 21), "a"), at(range(91, 111), "o", 1000)
    assert judged(EmbeddingScorer(Plane()), scoring_examples(yes, no)).value == 1.0
    same = scoring_examples(at([30] * 9, "a"), at([30] * 9, "o", 1000))
    assert judged(EmbeddingScorer(Plane()), same).value == 0.5


def test_tiers_are_reported_apart() -> None:
    examples = ScoringExamples(
        7,
        tuple(at([10, 20, 30, 40], "a")),
        {
            "random": tuple(at([90] * 3, "o", 1000)),
            "embedding_near": tuple(at([25] * 3, "o", 2000)),
        },
    )
    result = judged(EmbeddingScorer(Plane()), examples)
    tiers = result.details["tiers"]
    assert result.value == tiers["random"]["value"] == 1.0
    assert tiers["embedding_near"]["value"] == 0.5
    assert EmbeddingScorer(Plane()).tiers(("embedding_near", "random")) == (
        "random",
        "embedding_near",
    )


def test_another_explanation_costs_one_text() -> None:
    embed = Plane()
    scorer = EmbeddingScorer(embed)
    examples = scoring_examples(at([10, 20, 50], "a"), at([40, 60], "o", 1000))
    first = judged(scorer, examples)
    # An explanation at 180 degrees turns every cosine about.
    second = judged(scorer, examples, "explanation at 180")
    assert [len(texts) for texts in embed.asked] == [6, 1]
    assert [j.value for j in second.judgements] == pytest.approx(
        [-(j.value or 0) for j in first.judgements]
    )
    judged(scorer, scoring_examples(at([11], "a"), at([40], "o", 1000)))
    assert [len(texts) for texts in embed.asked] == [6, 1, 3]


def test_contexts_are_cropped_as_in_detection() -> None:
    words = " ".join(f"w{i}" for i in range(30))
    long = example(0, f"{words}<< x>> {words}", 0)
    asked: list[str] = []

    async def embed(texts: Sequence[str]) -> Any:
        asked.extend(texts)
        return np.ones((len(texts), 3))

    judged(EmbeddingScorer(embed, radius=2), scoring_examples([long], at([1], "o", 1000)))
    assert asked == [EXPLANATION, " w28 w29 x w0 w1", "word o 1"]


def test_both_kinds_of_examples_are_needed() -> None:
    for yes, no in ((at([1], "a"), []), ([], at([1], "o"))):
        with pytest.raises(DataError, match="activating examples and others"):
            judged(EmbeddingScorer(Plane()), scoring_examples(yes, no))


# -------------------------------------------------------------------- example embedding
class Blobs:
    """``word a ...`` near one direction, ``word o ...`` near another, ``spread`` apart."""

    def __init__(self, apart: float, spread: float = 0.5, width: int = 12) -> None:
        self.apart, self.spread, self.width = apart, spread, width
        self.asked: list[list[str]] = []

    async def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        self.asked.append(list(texts))
        return np.stack([self.one(text) for text in texts])

    def one(self, text: str) -> npt.NDArray[np.float64]:
        noise = np.random.default_rng([*text.encode()]).normal(size=self.width) * self.spread
        noise[0] += 1.0
        noise[1] += self.apart * (1 if " a " in text else -1)
        return noise


def blobs(count: int, documents: int | None = None, strata: int = 5) -> ScoringExamples:
    return scoring_examples(
        [example(i, f"word a<< {i}>>", i % strata, i % (documents or count)) for i in range(count)],
        [
            example(1000 + i, f"word o<< {i}>>", "negative", 1000 + i % (documents or count))
            for i in range(count)
        ],
    )


def test_the_value_is_the_difference_of_mean_cosines() -> None:
    examples, embed = blobs(20), Blobs(0.3)
    result = judged(ExampleEmbeddingScorer(embed, queries=6, seed=3), examples)
    queries, rest = hold_apart(examples, "random", 6, 3)

    def cosine(one: ShownExample, other: ShownExample) -> float:
        first, second = embed.one(one.text), embed.one(other.text)
        return float(first @ second / math.sqrt((first @ first) * (second @ second)))

    for judgement, (tier, shown) in zip(result.judgements, rest, strict=True):
        alike = [cosine(shown, query) for kind, query in queries if kind == "activating"]
        unlike = [cosine(shown, query) for kind, query in queries if kind == "random"]
        assert (len(alike), len(unlike)) == (6, 6)
        assert judgement.value == pytest.approx(np.mean(alike) - np.mean(unlike), abs=2e-6)
        assert (judgement.row, judgement.tier) == (shown.row, tier)
    graded = {
        truth: [j.value for j in result.judgements if j.truth is truth] for truth in (True, False)
    }
    wins = [(y > n) + (y == n) / 2 for y in graded[True] for n in graded[False]]
    assert result.value == pytest.approx(np.mean(wins))
    assert len(embed.asked) == 1
    assert len(embed.asked[0]) == 40
    assert result.n == 28


@pytest.mark.parametrize("documents", [8, 10, 20])
def test_queries_and_judged_examples_share_no_document(documents: int) -> None:
    examples = blobs(20, documents)
    queries, rest = hold_apart(examples, "random", 6, 0)
    assert not {e.document for _, e in queries} & {e.document for _, e in rest}
    assert {e.id for _, e in [*queries, *rest]} == {e.id for _, e in examples.with_tiers()}
    for tier in ("activating", "random"):
        held = [e for kind, e in queries if kind == tier]
        assert 6 <= len(held) <= 8
    strata = {e.group for kind, e in queries if kind == "activating"}
    assert documents < 20 or len(strata) == 5
    assert hold_apart(examples, "random", 6, 0) == (queries, rest)
    assert hold_apart(examples, "random", 6, 1) != (queries, rest)


def test_most_examples_are_judged() -> None:
    queries, rest = hold_apart(blobs(10), "random", 10, 0)
    assert (len(queries), len(rest)) == (6, 14)


def test_a_feature_with_a_meaning_scores_high_and_one_without_at_chance() -> None:
    assert judged(ExampleEmbeddingScorer(Blobs(3.0)), blobs(60)).value == 1.0
    chance = [
        judged(ExampleEmbeddingScorer(Blobs(0.0), seed=seed), blobs(60)).value for seed in range(20)
    ]
    # One value scatters by 0.06; judging by all others would put it at 0.4 and below.
    assert np.mean([value for value in chance if value is not None]) == pytest.approx(0.5, abs=0.06)


def test_too_few_documents_are_refused() -> None:
    for examples in (blobs(6, documents=1), blobs(1), scoring_examples(blobs(4).activating, [])):
        with pytest.raises(DataError, match="from several documents"):
            judged(ExampleEmbeddingScorer(Blobs(1.0)), examples)


# -------------------------------------------------------------------- asking the embedder
def test_a_blocking_embedder_is_asked_in_batches_one_at_a_time() -> None:
    running, most, sizes = 0, 0, []
    loop_thread = threading.get_ident()

    def embed(texts: Sequence[str]) -> list[list[float]]:
        nonlocal running, most
        assert threading.get_ident() != loop_thread
        running += 1
        most = max(most, running)
        time.sleep(0.002)
        running -= 1
        sizes.append(len(texts))
        return [[float(text), 1.0] for text in texts]

    ask = ThreadedEmbed(embed, "some model", batch=10)
    assert embedder_name(ask) == "some model"

    async def many() -> list[Any]:
        return await asyncio.gather(*(ask([str(i + k) for i in range(25)]) for k in range(6)))

    for k, vectors in enumerate(asyncio.run(many())):
        assert vectors[:, 0].tolist() == [i + k for i in range(25)]
    assert (most, sorted(sizes)) == (1, [5] * 6 + [10] * 12)
    assert asyncio.run(ask([])).shape[0] == 0


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (np.ones((3, 4)), "for 2 texts"),
        (np.ones(2), "for 2 texts"),
        (np.ones((2, 5)), "for 2 texts"),
        (np.array([[1.0, 0, 0, 0], [0, 0, 0, 0]]), "zero or not finite"),
        (np.array([[1.0, 0, 0, 0], [0, np.inf, 0, 0]]), "zero or not finite"),
    ],
)
def test_unusable_vectors_are_refused(answer: Any, fault: str) -> None:
    async def embed(texts: Sequence[str]) -> Any:
        return answer

    with pytest.raises(DataError, match=fault):
        asyncio.run(unit_vectors(embed, ["a", "b"], 4))


def test_without_an_embedder_there_is_no_such_scorer() -> None:
    for name in ("embedding", "example_embedding"):
        with pytest.raises(DataError, match="needs the sentence embedder"):
            create_scorer(ScoringSpec(scorer=name), Tools())
        made = create_scorer(ScoringSpec(scorer=name, seed=5), Tools(embed=ThreadedEmbed(len, "m")))
        assert made.name == name
        assert made.provenance()["embedder"] == "m"


# -------------------------------------------------------------------- the real embedder
@pytest.mark.slow
def test_the_packaged_embedder_tells_cities_from_others() -> None:
    tools = Tools(embed=embed_here())
    more_cities = [example(100 + i, text) for i, text in enumerate(CITIES)]
    more_others = [example(1100 + i, text, "negative") for i, text in enumerate(OTHERS)]
    examples = scoring_examples(positives() + more_cities, negatives() + more_others)
    scorer = create_scorer(ScoringSpec(scorer="embedding"), tools)
    right = judged(scorer, examples, "The name of a large city, such as Paris or Tokyo")
    wrong = judged(scorer, examples, "Recipes and instructions for baking bread")
    ceilings = [
        judged(
            create_scorer(ScoringSpec(scorer="example_embedding", seed=seed), tools), examples
        ).value
        for seed in range(5)
    ]
    assert right.value is not None and right.value > 0.8
    assert wrong.value is not None and wrong.value < 0.6
    # Five queries of each kind: 0.94 on average over 30 seeds, 0.8 with the worst.
    assert np.mean([value or 0.0 for value in ceilings]) > 0.85
    assert right.with_baseline(wrong).chance_normalised > 0.5
    assert right.details["embedder"] == "all-minilm-l6-v2"
