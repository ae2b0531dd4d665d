"""The output-centric explainer: what a feature does to the words that come next.

Gur-Arieh et al. (arXiv 2501.08319): features are described by the tokens that their direction
promotes (VocabProj) and by those that become likelier when it is added to the stream (TokenChange),
which reaches features that no input shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Self

from monosemy.errors import DataError
from monosemy.index.evidence import FeatureEvidence
from monosemy.interp.explainers.asking import AskingExplainer, token_list
from monosemy.interp.explainers.base import ExplainingExamples, Explanation
from monosemy.interp.judging.judge import Judge
from monosemy.interp.prompts.quoting import fence, quote
from monosemy.interp.tools import Tools
from monosemy.specs import OutputCentricExplanation

_WORDS = 15

TokenChange = Callable[[int, Sequence[tuple[int, ...]]], list[str]]
"""(feature, prompts as token ids) to the tokens that adding the feature after each makes likelier,
those that gain most first (``token_change``)."""


class OutputCentricExplainer(AskingExplainer):
    """Promoted and suppressed tokens; with ``token_change`` also those that an intervention in the
    host model makes likelier in context."""

    name = "output_centric"
    prompt_name = "explain_output"
    kind = "output"

    def __init__(self, judge: Judge, token_change: TokenChange | None = None) -> None:
        super().__init__(judge)
        self.token_change = token_change
        self.wants_prompts = token_change is not None

    @classmethod
    def create(cls, spec: OutputCentricExplanation, tools: Tools) -> Self:
        change: TokenChange | None = None
        if spec.token_change:
            from monosemy.interp.token_change import TokenChanges  # needs torch

            change = TokenChanges(tools.need_hosted_sae())
        return cls(tools.need_judge(), change)

    async def explain(self, evidence: FeatureEvidence, examples: ExplainingExamples) -> Explanation:
        """Raises as the default explainer does; ``DataError`` for a feature without any effect."""
        if not evidence.promoted:
            raise DataError(f"Nothing is known of what feature {evidence.feature} promotes.")
        changed, provenance = await self._changed(evidence.feature, examples.prompts)
        return await self.ask(
            evidence, self.messages(evidence, changed), [], [], {**provenance, "words": _WORDS}
        )

    async def _changed(
        self, feature: int, prompts: Sequence[tuple[int, ...]]
    ) -> tuple[list[str], dict[str, Any]]:
        """The tokens that got likelier, and what the provenance says of them."""
        if self.token_change is None:
            return [], {"token_change": False}
        try:
            changed = await asyncio.to_thread(self.token_change, feature, prompts)
        except DataError as error:  # a direction without effect still promotes something
            return [], {"token_change": str(error)}
        return changed, {"token_change": True, "prompts": len(prompts)}

    def messages(self, evidence: FeatureEvidence, changed: Sequence[str]) -> list[dict[str, str]]:
        lists = {
            "promoted": token_list(evidence.promoted, _WORDS),
            "suppressed": token_list(evidence.suppressed, _WORDS),
            "changed": f"[{', '.join(quote(word) for word in changed[:_WORDS])}]",
        }
        return self.prompt.render(fence=fence(list(lists.values())), **lists)
