"""Concepts: what a text is told by, and what is done to it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from monosemy.specs.part import Latent, Part
from monosemy.specs.references import Plain

MOST_TEXTS = 5000
"""Of each kind."""
LONGEST_TEXT = 20_000
"""Characters."""
MOST_NAMES = 1000
"""Of other things, that texts are held against."""
MOST_CONCEPTS = 16
"""That one text is held against."""
MOST_CHOSEN = 200_000
"""Features of a concept."""

ConceptText = Annotated[str, Plain(), Field(min_length=1, max_length=LONGEST_TEXT)]
ConceptTexts = Annotated[list[ConceptText], Field(min_length=1, max_length=MOST_TEXTS)]

Scoring = Literal["removed", "error"]
"""`removed`: the mean square of what deactivating takes out of a token; `error`: the mean square of
the activations less the deactivated reconstruction, the SAE's own error included (as in the paper).
A text's score is that of its highest token."""

ChoiceRule = Literal["difference", "share"]
"""Which features are a concept's, of those that are among the `top_k` strongest of a target.
`difference`: those that are among the strongest of no retain text (the paper's).  `share`: those
that are so in more targets than retain texts, beyond chance; of them, highest correlation first, as
many as tell texts best that had no part in their order."""

TextEmbedding = Literal["pooled", "mean_stream"]
"""One vector for a whole text: what a text encoder pools at the text's end, or the mean over the
tokens of the stream after the last block."""

Scale = Annotated[float, Field(ge=-100, le=1)]


class Deactivating(Part):
    """What a concept's features are multiplied by, and how a text is told by them."""

    scale: Scale = 0.0
    """What activations of the concept's features are multiplied by: 0 takes them out, below 0 turns
    them round (the paper has -8 and -6)."""
    keep_error: bool = True
    """Keep what the SAE does not reconstruct; otherwise the deactivated reconstruction takes the
    place of the activations (as in the paper)."""
    score: Scoring = "removed"
    """By what a text is told: `removed`, the mean square of what is taken out of a token; `error`,
    the mean square of the activations less the deactivated reconstruction, the SAE's own error
    included (as in the paper).  A text's score is that of its highest token."""


class FittedConcept(Deactivating):
    """A concept as texts are held against it."""

    name: Annotated[str, Plain()] = Field(min_length=1, max_length=1000)
    features: list[Latent] = Field(max_length=MOST_CHOSEN)
    threshold: float
    """A text whose score is above it is flagged."""
