"""Surprisal scoring: does the explanation make the texts that activate more probable?  Needs torch.

The information value of a text, I(x) = log p(x | z) - log p(x | z~) with the explanation z and a
fixed one z~ that says nothing (Paulo et al., arXiv 2410.13928, section 4), by the host model; the
score is the AUROC of I(x), activating texts against others, on documents that no explainer saw.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Self

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.interp.host_text import HostText, Ids
from monosemy.interp.prompts.loader import load_prompt
from monosemy.interp.prompts.quoting import quote
from monosemy.interp.scorers.auroc import auroc
from monosemy.interp.scorers.base import ScoringExamples, judgement_of
from monosemy.interp.scorers.result import Judged, Judgement, Summary
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.tiers import ACTIVATING, RANDOM
from monosemy.interp.tools import Tools
from monosemy.specs import ScoringSpec

NEUTRAL = "Various unrelated sentences."
"""z~, the paper's own."""


class SurprisalScorer:
    """``Judgement.value`` is I(x) in nats, summed over the tokens of the text.

    The sum is what the paper has: the information that the explanation gives about the whole text.
    A mean per token would let a short text's one telling word weigh more than a long one's; texts
    are cut to one radius, so their lengths are alike and the sum favours none.

    On a host in bfloat16 a value depends a little on its batch (up to 0.3 nats where values spread
    over 12, SmolLM2-135M); batches depend on the examples alone, so equal work has equal results.
    """

    name = "surprisal"
    headline = RANDOM
    needs_explanation = True

    def __init__(self, hosted: HostedSAE, radius: int = 16) -> None:
        self.text = HostText(hosted.host)
        self.radius = radius
        self.prompt = load_prompt("surprisal")
        # A shuffled baseline judges the very same texts, whose neutral half is then there already.
        self._neutral = lru_cache(maxsize=32)(self._after_neutral)

    @classmethod
    def create(cls, spec: ScoringSpec, tools: Tools) -> Self:  # noqa: ARG003
        return cls(tools.need_hosted_sae())

    def tiers(self, asked: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys([RANDOM, *asked]))

    async def judge(self, explanation: str, examples: ScoringExamples) -> Judged:
        """Raises ``DataError`` without examples of both kinds, or where explanation and text are
        longer than the model's context.  A text without a token counts as failed."""
        items = examples.with_tiers()
        if len({tier == ACTIVATING for tier, _ in items}) < 2:
            raise DataError(
                "Surprisal needs activating examples and others.",
                "Index more text, or leave the feature out.",
            )
        texts = [example.cropped(self.radius).text.strip() for _, example in items]
        values = await asyncio.to_thread(self.information, explanation, texts)
        return Judged(
            tuple(
                judgement_of(tier, example, value=value)
                for (tier, example), value in zip(items, values, strict=True)
            )
        )

    def information(self, explanation: str, texts: Sequence[str]) -> list[float | None]:
        """I(x) of each text in nats; None for one without tokens."""
        ids = tuple(self.text.tokens(text) for text in texts)
        given = self._after(explanation, ids)
        neutral = self._neutral(ids)
        return [
            with_it - without if text else None
            for text, with_it, without in zip(ids, given, neutral, strict=True)
        ]

    def summarise(self, judgements: Sequence[Judgement], z: float = Z95) -> Summary:
        """AUROC against ``headline``."""
        return auroc(judgements, self.headline, z)

    def provenance(self) -> dict[str, Any]:
        host = self.text.host
        return {
            "prompt": self.prompt.provenance(),
            "model": {"name": host.name, "fingerprint": host.fingerprint, "dtype": str(host.dtype)},
            "parameters": {"radius": self.radius, "neutral": NEUTRAL},
        }

    def _after_neutral(self, texts: tuple[Ids, ...]) -> list[float]:
        return self._after(NEUTRAL, texts)

    def _after(self, explanation: str, texts: Sequence[Ids]) -> list[float]:
        prefix = self.text.prefix(self.prompt, explanation=quote(explanation))
        return self.text.log_probabilities([(prefix, text) for text in texts])
