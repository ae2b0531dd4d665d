"""Sittings, a person's detection tests, as the API shows and takes them."""

from __future__ import annotations

import datetime as dt
import uuid

from pydantic import ConfigDict, Field

from monosemy.specs import Part
from monosemy.specs.described import Described


class _View(Described):
    model_config = ConfigDict(from_attributes=True)


class SittingText(_View):
    """A text, and whether the person says that what the explanation describes occurs in it."""

    number: int
    """From 0, in the order in which they are asked."""
    text: str
    answered: bool
    """Whether there is an answer, or it was skipped."""
    answer: bool | None
    """null where it was skipped, or not asked yet."""
    truth: bool | None
    """Whether the feature fires in it; null until the sitting has ended."""
    stratum: int | None
    """Of a text in which it fires: its stratum of activation, 0 the weakest; null until the end."""
    judged: bool | None
    """What the judge said whose texts these are; null until the end, and where there is none."""


class SittingView(_View):
    """A sitting."""

    id: uuid.UUID
    explanation_id: uuid.UUID
    explanation: str
    """What is judged: all that is known of the feature in this test."""
    sae_id: uuid.UUID
    feature: int
    taker: str
    """Id of the API key that takes it, or `local`."""
    texts: list[SittingText]
    answered: int
    """Texts answered or skipped."""
    like: uuid.UUID | None
    """The score of a judge on these very texts; null where they are others."""
    score_id: uuid.UUID | None
    """The score that came of it; null until it has ended."""
    created_at: dt.datetime


class NewSitting(Part):
    """A test to be taken."""

    like: uuid.UUID | None = None
    """A detection score of the explanation: its very texts are asked again.  None draws others, as
    a judge's are drawn, that this caller has not been asked before."""
    positives: int = Field(10, ge=2, le=100)
    """Texts in which the feature fires, of all its strata, from the documents kept for scoring."""
    negatives: int = Field(10, ge=2, le=100)
    """Texts in which it is silent."""


class SittingAnswer(Part):
    """What is said of one text."""

    answer: bool | None
    """Does what the explanation describes occur in it?  null skips it: to the score it counts as
    failed."""


class SittingProgress(_View):
    """How far a sitting has come."""

    number: int
    answered: int
    total: int
