"""The fast path for features that stand for one word: by counting, without a judge."""

from __future__ import annotations

from collections import Counter, defaultdict

from monosemy.index.evidence import FeatureEvidence
from monosemy.interp.explainers.base import (
    LABEL_LENGTH,
    Explainer,
    ExplainingExamples,
    Explanation,
)
from monosemy.interp.judging.usage import Usage

SHARE, FIRES, FIRINGS = 0.9, 0.5, 20
"""Of the activation on the word; of the word's occurrences on which it fires; and how many firings
it takes to say so."""


class SingleTokenExplainer:
    """Explains such features itself and leaves all others to ``otherwise``.

    Ways to write a word (case, the space before it) count as one.  The figures are those of the
    evidence, which come from documents that never score the feature.
    """

    def __init__(self, otherwise: Explainer) -> None:
        self.otherwise = otherwise
        self.name = otherwise.name
        self.prompt = getattr(otherwise, "prompt", None)
        self.wants_contrasts, self.validates = otherwise.wants_contrasts, otherwise.validates
        self.wants_prompts = otherwise.wants_prompts

    async def explain(self, evidence: FeatureEvidence, examples: ExplainingExamples) -> Explanation:
        figures = single_word(evidence)
        if figures is None:
            return await self.otherwise.explain(evidence, examples)
        word, share, fires = figures
        return Explanation(
            label=f'the word "{word}"'[:LABEL_LENGTH],
            text=f'The word "{word}": {share:.0%} of the activation falls on it, and {fires:.0%} of'
            " its occurrences activate.",
            confidence="high",
            provenance={
                "explainer": "single_token",
                "feature": evidence.feature,
                "parameters": {"share": SHARE, "fires": FIRES, "firings": FIRINGS},
                "examples": [],
                "kind": "input",
                "evidence": [],
                "usage": Usage().as_dict(),
            },
            usage=Usage(),
            kind="input",
        )


def single_word(evidence: FeatureEvidence) -> tuple[str, float, float] | None:
    """(word, its share of the activation, the share of its occurrences that activate), or None."""
    if evidence.token_firings < FIRINGS or evidence.tokens_from != "train":
        return None
    shares: dict[str, float] = defaultdict(float)
    firings: Counter[str] = Counter()
    occurrences: dict[str, float] = defaultdict(float)
    for token in evidence.top_tokens:
        word = token.text.strip().casefold()
        shares[word] += token.share
        firings[word] += token.count
        occurrences[word] += token.count / max(token.fires, 1e-9)
    if not shares:
        return None
    word, share = max(shares.items(), key=lambda item: item[1])
    fires = firings[word] / occurrences[word]
    if share < SHARE or fires < FIRES or not any(letter.isalnum() for letter in word):
        return None
    spelt = next(t.text.strip() for t in evidence.top_tokens if t.text.strip().casefold() == word)
    return spelt, min(share, 1.0), min(fires, 1.0)
