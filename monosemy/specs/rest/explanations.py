"""Explanations and scores of one feature, as they are asked for and shown."""

from __future__ import annotations

import uuid
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from monosemy.specs import ExplanationSpec, Part, ScoringSpec
from monosemy.specs.described import Described
from monosemy.specs.messages import pattern
from monosemy.specs.part import NO_NUL
from monosemy.specs.rest.features import ExplanationBrief, ExplanationDetail, ScoreDetail

Sentence = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=2000, pattern=NO_NUL),
]
ShortText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=NO_NUL),
]


_SOURCE = pattern(
    r"^[a-z0-9_.-]{1,40}$", "a word of small letters, digits, _, . and -, such as my-method,"
)


class _View(Described):
    model_config = ConfigDict(from_attributes=True)


class ExplanationView(ExplanationDetail):
    """An explanation with all its scores and votes."""

    sae_id: uuid.UUID
    feature: int


class NearExplanation(ExplanationBrief):
    """An explanation that means nearly the same."""

    sae_id: uuid.UUID
    sae: str
    """Name of the SAE."""
    feature: int
    similarity: float
    """Cosine of the embeddings."""


class NearExplanations(_View):
    items: list[NearExplanation]
    """The nearest first."""


class ScoreView(ScoreDetail):
    """A score, and what it scores."""

    explanation_id: uuid.UUID


class HumanExplanation(Part):
    """An explanation that a person gives."""

    text: Sentence
    """A sentence or two."""
    label: ShortText | None = None
    """A few words; None takes the beginning of ``text``."""


class ExplainNow(Part):
    """An explanation that the judge is to give."""

    explanation: ExplanationSpec = ExplanationSpec()
    """How; its ``features`` are those of the address."""


class ScoreNow(Part):
    """A score to be had."""

    explanation: uuid.UUID | None = None
    """Of which explanation; None takes the feature's newest."""
    scoring: ScoringSpec = ScoringSpec()
    """By which scorer, on how many examples."""


class GivenJudgement(Part):
    """One text, judged elsewhere."""

    activating: bool
    """Whether the feature fires in it; for fuzzing, whether the right words were marked."""
    answer: bool | None = None
    """What the judge said; None where no usable answer came."""
    stratum: int | None = Field(None, ge=0, le=1000)
    """Of an activating text: its stratum of activation, 0 the weakest."""


class GivenScore(Part):
    """A score that another tool came to."""

    scorer: Literal["detection", "fuzzing"]
    """Which of our scorers it is like."""
    source: str = Field(pattern=_SOURCE, max_length=40)
    """The tool.  The score is listed under `<scorer>:<source>`, apart from ours."""
    judgements: list[GivenJudgement] = Field(min_length=1, max_length=5000)
    """All of them.  Texts are counted one by one: which share a document nobody says."""


class VoteBody(Part):
    """A vote; a later one of the same key replaces it."""

    value: int = Field(ge=-1, le=1)
    """1 for it, -1 against it, 0 takes the vote back."""
