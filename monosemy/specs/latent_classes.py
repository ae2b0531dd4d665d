"""Which latents of a crosscoder are of one place and which of all, told by what they write.  No
torch."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal, NamedTuple

EXCLUSIVE_BELOW, SHARED_FROM = 0.1, 0.8
"""Of the largest norm: a latent whose others are all below the first is exclusive to one place,
one whose others are all from the second on shared by all.  With two places that is a relative norm
difference above .95 (or below .05) and between .4 and .6."""


class LatentClass(StrEnum):
    """Where a latent writes."""

    EXCLUSIVE = "exclusive"
    WEAK = "weak"
    """Weaker at some places."""
    SHARED = "shared"


UNKNOWN = "unknown"
"""Of a latent that no evaluation has measured: none has run, or it never fired on held-out text."""

LatentClassFilter = Literal["exclusive", "weak", "shared", "unknown"]


class ScaledLatent(NamedTuple):
    """What an evaluation has measured of a latent that fired."""

    feature: int
    latent_class: LatentClass
    place: str
    """Where it is strongest."""
    genuine: bool | None
    """Whether one that looks exclusive is; None of other classes."""
    nu_error: float | None
    """The largest over the other places: see ``monosemy.evals.latent_scaling``."""
    nu_reconstruction: float | None


def class_of_norms(norms: Sequence[float]) -> LatentClass | None:
    """By the norms of a decoder row at each place; None for a latent that writes nothing, and where
    there are not several places."""
    *others, largest = sorted(norms)
    if not others or not largest > 0:
        return None
    return class_of(others[-1] / largest, others[0] / largest)


def class_of(second: float, least: float) -> LatentClass:
    """By the second largest and the smallest norm, as shares of the largest."""
    if second < EXCLUSIVE_BELOW:
        return LatentClass.EXCLUSIVE
    return LatentClass.SHARED if least >= SHARED_FROM else LatentClass.WEAK
