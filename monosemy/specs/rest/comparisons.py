"""Comparisons as the API shows them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, Literal

from monosemy.specs.described import Described

Alike = Literal["decoder", "tokens", "explanations"]


MatchSort = Literal["value", "a", "b"]
"""By how alike they are, or by the features of the first or the second SAE."""


class SideView(Described):
    """One of the two SAEs."""

    id: uuid.UUID
    name: str
    site: str
    d_sae: int


class ComparisonView(Described):
    """Two SAEs, and how much of each is in the other."""

    id: uuid.UUID
    """That of the run which made it."""
    a: SideView
    b: SideView
    by: Alike
    """What makes features alike."""
    method: Literal["mutual", "hungarian"]
    """Who are partners."""
    summary: dict[str, Any]
    """Shares and means of the matches; `null`: the best similarities that chance gives; `within_a`:
    those of the first SAE's features to each other; a histogram of the best similarities."""
    created_at: dt.datetime


class LinkedFeature(Described):
    index: int
    label: str | None
    """What heads it (an explanation whose score clears its shuffled baseline, else its
    evidence label); null when it is not indexed."""


class FeatureMatch(Described):
    """A feature of the first SAE and one of the second."""

    a: LinkedFeature
    b: LinkedFeature
    value: float
    """How alike they are: a cosine, or the share of tokens that both fire on."""
    matched: bool
    """They are partners, by the comparison's method."""


class FeatureLinkView(LinkedFeature):
    """A feature that has to do with another one, in the same SAE or in one compared with it."""

    kind: Literal["decoder", "coactivation", "tokens", "explanations"]
    """`decoder` and `explanations` are cosines; `coactivation` (same SAE) and `tokens` (another)
    shares of tokens that both fire on."""
    sae: SideView
    """Whose feature it is."""
    value: float
    matched: bool | None
    """They are partners; null within one SAE."""
    comparison: uuid.UUID | None
    """null within one SAE."""


class FeatureLinks(Described):
    items: list[FeatureLinkView]
