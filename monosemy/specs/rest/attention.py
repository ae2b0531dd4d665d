"""What a survey of an attention-output SAE found, as the library makes it and the API shows it."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, Literal

from pydantic import Field

from monosemy.specs.described import Described

FeatureFamily = Literal[
    "first token", "previous token", "duplicate", "induction", "local", "long range", "none"
]
"""What an attention feature does, by fixed rules (``monosemy/attribution/families.py``)."""


class HeadFeature(Described):
    """A feature of a head."""

    index: int
    share: float
    """Of the feature's decoder row, how much lies in this head's part: norms, summing to 1."""


class HeadSurvey(Described):
    """One attention head: its standard scores and its features."""

    head: int
    previous: float
    """Attention to the token before, on random tokens that repeat."""
    duplicate: float
    """Attention to the same token where it came before, on the same."""
    induction: float
    """Attention to the token after that, on the same."""
    prefixes: dict[int, float]
    """The last where so many tokens, and no more, have come before."""
    long_prefix: float | None
    """How many times more it attends after a prefix of 5 than of 1; null where after neither."""
    owned: int
    """Features that fire and whose largest share is this head's."""
    families: dict[FeatureFamily, int]
    """How many of those are of each family."""
    features: list[HeadFeature]
    """The features with the largest share of this head, the largest first."""
    cosine: float
    """Mean cosine between any two of them, of what they add to the logits through this head."""
    random: float
    """The mean of the same over random sets of as many features."""
    p: float
    """Share of random sets that are as alike or more."""
    q: float
    """The same after Benjamini and Hochberg, over the heads."""


class AttentionSummary(Described):
    """The heads behind an attention-output SAE."""

    site: str
    heads: list[HeadSurvey]
    alike: int
    """Heads whose features are more alike than random ones (q of at most 0.05); of the others it
    cannot be said that they have one meaning."""
    draws: int
    """Random sets of features behind every p."""
    families: dict[FeatureFamily, int]
    """Features of each family."""
    features: int
    """Features that fire."""
    rows: int
    """Rows of the indexed text that were read for the families."""
    examples: int
    """Firings in them that were looked at."""
    text_id: str
    """The text that was indexed."""
    weights: str
    """Digest of the SAE; the survey is refused once the SAE is another."""
    host: str
    """Fingerprint of the host model."""
    parameters: dict[str, Any]
    """Those of the run."""
    versions: dict[str, str]


class AttentionView(AttentionSummary):
    """The survey of an SAE."""

    sae: str
    run_id: uuid.UUID | None
    """The run that made it."""
    created_at: dt.datetime


class SurveyedFeature(Described):
    """What a survey found of one feature."""

    index: int
    head: int
    """The head with the largest share of its decoder row."""
    share: float
    """That share."""
    shares: list[float]
    """Of every head; they add up to 1."""
    entropy: float
    """Of the shares, in nats: 0 for one head, log of their number for all alike."""
    sources: list[float] | None = None
    """How much of what adds to it comes through each head, mean over the examples."""
    family: FeatureFamily
    n: int
    """Examples behind the family."""
    deciding: float | None
    """The share that decides the family (of none: the largest); null with fewer than 3 examples."""
    low: float | None
    """Its 95 % interval over the examples."""
    high: float | None
    figures: dict[str, float] = Field(default_factory=dict)
    """Means over the examples of what comes from where, by which the rules go: `first`, `previous`,
    `duplicate`, `induction`, `local` with `duplicate_chance` and `induction_chance`, `distance` in
    tokens, `entropy` in nats, `promoted`."""
