"""Example embedding: do unseen activating contexts lie nearer to other activating ones?

A ceiling for embedding scoring that needs no explanation: examples of the feature stand in for it
(delphi has a scorer of this name, which compares queries with sets; here it is an AUROC).  With few
queries it is a soft one: a good explanation can do better than five examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from monosemy.errors import DataError
from monosemy.interp.embedding import embedder_name, unit_vectors
from monosemy.interp.scorers.auroc import auroc
from monosemy.interp.scorers.base import ScoringExamples, judgement_of
from monosemy.interp.scorers.embedding import DECIMALS
from monosemy.interp.scorers.result import Judged, Judgement, Summary
from monosemy.interp.shown import ShownExample
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.tiers import ACTIVATING, RANDOM
from monosemy.interp.tools import Embed, Tools
from monosemy.specs import ScoringSpec

Items = list[tuple[str, ShownExample]]


class ExampleEmbeddingScorer:
    """``value`` of a judgement: mean cosine to activating queries minus that to silent ones.

    Queries are held apart with their whole documents and are not judged, so that no context is
    compared with itself or its neighbourhood.  (Judging every example by all others would not do:
    leaving an example out moves its own class's mean away from it, which puts the AUROC of a
    feature without any meaning below 0.5.)
    """

    name = "example_embedding"
    needs_explanation = False
    headline = RANDOM

    def __init__(self, embed: Embed, queries: int = 10, seed: int = 0, radius: int = 16) -> None:
        self.embed = embed
        self.queries = queries
        """Queries of each kind, but no more than a third of the examples there are (at least one);
        the documents they come with may add a few."""
        self.seed = seed
        self.radius = radius

    @classmethod
    def create(cls, spec: ScoringSpec, tools: Tools) -> Self:
        return cls(tools.need_embed(), seed=spec.seed)

    def tiers(self, asked: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys([RANDOM, *asked]))

    async def judge(self, explanation: str, examples: ScoringExamples) -> Judged:  # noqa: ARG002
        """``explanation`` is not used; queries get no judgement.

        Raises ``DataError`` when examples are too few, or from too few documents, to hold any
        apart, and for unusable vectors.
        """
        queries, judged = hold_apart(examples, self.headline, self.queries, self.seed)
        texts = [example.cropped(self.radius).text for _, example in [*queries, *judged]]
        vectors = await unit_vectors(self.embed, texts)
        active = np.array([tier == ACTIVATING for tier, _ in queries])
        asked, contexts = vectors[: len(queries)], vectors[len(queries) :]
        # The mean cosine to several unit vectors is the product with their mean.
        direction = asked[active].mean(0) - asked[~active].mean(0)
        values = np.round(contexts @ direction, DECIMALS).tolist()
        return Judged(
            tuple(
                judgement_of(tier, example, value=value)
                for (tier, example), value in zip(judged, values, strict=True)
            )
        )

    def summarise(self, judgements: Sequence[Judgement], z: float = Z95) -> Summary:
        """AUROC against ``headline``; the queries are taken as given."""
        return auroc(judgements, self.headline, z)

    def provenance(self) -> dict[str, Any]:
        return {
            "embedder": embedder_name(self.embed),
            "parameters": {"queries": self.queries, "seed": self.seed, "radius": self.radius},
        }


def hold_apart(
    examples: ScoringExamples, headline: str, queries: int, seed: int
) -> tuple[Items, Items]:
    """(queries: activating and of tier ``headline``; judged: of all tiers), no document in both.

    Activating queries are spread over the strata.  Deterministic by seed and examples.
    """
    rng = np.random.default_rng([seed % 2**32, examples.feature])
    activating, silent = examples.activating, examples.negatives.get(headline, ())
    documents: set[int] = set()
    for pile in (activating, silent):
        wanted = min(queries, max(1, len(pile) // 3))
        for example in _spread(pile, rng):
            if sum(each.document in documents for each in pile) >= wanted:
                break
            documents.add(example.document)
    asked = [
        (tier, example)
        for tier, pile in ((ACTIVATING, activating), (headline, silent))
        for example in pile
        if example.document in documents
    ]
    judged = [item for item in examples.with_tiers() if item[1].document not in documents]
    for part in (asked, judged):
        if not {ACTIVATING, headline} <= {tier for tier, _ in part}:
            raise DataError(
                "Example embedding needs examples of both kinds from several documents.",
                "Raise scoring.positives and scoring.negatives, or index more text.",
            )
    return asked, judged


def _spread(pile: Sequence[ShownExample], rng: np.random.Generator) -> list[ShownExample]:
    """Shuffled, strata taking turns."""
    met: dict[str | int, int] = {}
    turns = []
    for i in rng.permutation(len(pile)):
        group = pile[int(i)].group
        met[group] = met.get(group, 0) + 1
        turns.append((met[group], int(i)))
    return [pile[i] for _, i in sorted(turns, key=lambda turn: turn[0])]
