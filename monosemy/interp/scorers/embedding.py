"""Embedding scoring: do activating contexts lie nearer to the explanation than others?

The score is the AUROC of cos(e(explanation), e(context)) (Paulo et al., arXiv 2410.13928, section
4.4).  No judge is asked, which makes it the cheapest score by far.  It sees meaning, not form: a
feature of punctuation or spelling scores near 0.5 however good its explanation is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from monosemy.errors import DataError
from monosemy.interp.embedding import embedder_name, unit_vectors
from monosemy.interp.scorers.auroc import auroc
from monosemy.interp.scorers.base import ScoringExamples, judgement_of
from monosemy.interp.scorers.result import Judged, Judgement, Summary
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.tiers import ACTIVATING, RANDOM
from monosemy.interp.tools import Embed, Tools
from monosemy.specs import ScoringSpec

DECIMALS = 6
"""Cosines are kept to so many: contexts that read the same are then ties, whatever the order in
which their products were summed."""

_REMEMBERED = 64
"""Features whose contexts need not be embedded again for the baseline's explanation."""


class EmbeddingScorer:
    """``value`` of a judgement is the cosine; ``radius`` crops contexts as detection does.

    Explanation and contexts of a feature are embedded in one call; a second explanation of the same
    contexts (the baseline's) costs one text.  No instruction goes before either, for the packaged
    embedder was trained without.
    """

    name = "embedding"
    needs_explanation = True
    headline = RANDOM

    def __init__(self, embed: Embed, radius: int = 16) -> None:
        self.embed = embed
        self.radius = radius
        self._known: OrderedDict[tuple[str, ...], npt.NDArray[np.float32]] = OrderedDict()

    @classmethod
    def create(cls, spec: ScoringSpec, tools: Tools) -> Self:  # noqa: ARG003
        return cls(tools.need_embed())

    def tiers(self, asked: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys([RANDOM, *asked]))

    async def judge(self, explanation: str, examples: ScoringExamples) -> Judged:
        """Raises ``DataError`` without examples of both kinds or for unusable vectors, and whatever
        the embedder raises when it is away."""
        items = examples.with_tiers()
        if len({tier == ACTIVATING for tier, _ in items}) < 2:
            raise DataError(
                "Embedding needs activating examples and others.",
                "Index more text, or leave the feature out.",
            )
        texts = tuple(example.cropped(self.radius).text for _, example in items)
        known = self._known.get(texts)
        if known is None:
            vectors = await unit_vectors(self.embed, [explanation, *texts])
            query, contexts = vectors[0], vectors[1:]
            self._known[texts] = contexts
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        else:
            contexts = known
            query = (await unit_vectors(self.embed, [explanation], known.shape[1]))[0]
        cosines = np.round(contexts @ query, DECIMALS).tolist()
        return Judged(
            tuple(
                judgement_of(tier, example, value=cosine)
                for (tier, example), cosine in zip(items, cosines, strict=True)
            )
        )

    def summarise(self, judgements: Sequence[Judgement], z: float = Z95) -> Summary:
        """AUROC against ``headline``.  ``details`` has ``texts_embedded`` too: the contexts judged
        and their explanation."""
        summary = auroc(judgements, self.headline, z)
        embedded = len(judgements) + 1 if judgements else 0
        return replace(summary, details={**summary.details, "texts_embedded": embedded})

    def provenance(self) -> dict[str, Any]:
        return {
            "embedder": embedder_name(self.embed),
            "parameters": {"radius": self.radius},
        }
