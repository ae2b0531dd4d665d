"""Search results."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from monosemy.interp.heading import Heading
from monosemy.specs.described import Described
from monosemy.specs.rest.features import ExampleView, ExplanationBrief, ScoreBrief

Matcher = Literal["vector", "words", "similar"]


class SearchHit(Described):
    """A feature that fits the query."""

    model_config = ConfigDict(use_attribute_docstrings=True)  # for the dataclasses in it

    sae_id: str
    sae: str
    """The SAE's name."""
    index: int
    label: str
    """Evidence label."""
    heading: Heading
    """What to call it: an explanation whose score clears its shuffled baseline, else `label`; and
    why."""
    density: float
    max_activation: float
    explanation: ExplanationBrief | None
    """The one that leads: whose score's interval begins highest above its shuffled baseline; else
    the newest."""
    score: ScoreBrief | None
    """That score, whoever scored."""
    rank_score: float
    """Reciprocal rank fusion: the sum of 1 / (60 + rank) over the lists that found it."""
    matched: list[Matcher]
    """What found it: meaning (`vector`), words (`words`), or spelling (`similar`)."""
    example: ExampleView | None = None
    """Its strongest example, where examples were asked for and it fires."""


class SearchResults(Described):
    """Best first."""

    query: str
    mode: Literal["hybrid", "lexical"]
    """`lexical` when the embedder could not be asked: nothing was searched by meaning."""
    reason: str | None
    """Why the mode is `lexical`."""
    items: list[SearchHit]
