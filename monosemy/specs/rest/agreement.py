"""How far people, and judges, agree: as the API shows it."""

from __future__ import annotations

from typing import Literal

from monosemy.specs.described import Described

AgreementOf = Literal["votes", "sittings"]
"""``votes``: for or against explanations; ``sittings``: the texts of detection tests."""

MOST_RATERS = 10


class Rater(Described):
    """Somebody who answers yes or no."""

    name: str
    """Id of the API key, `local` in open mode, or a judge's model."""
    judge: bool
    """Whether it is an LLM."""
    items: int
    """Things that it answered."""


class AgreementPair(Described):
    """Two raters on the things that both answered."""

    first: Rater
    second: Rater
    n: int
    both_yes: int
    first_only: int
    """The first said yes, the second no."""
    second_only: int
    neither: int
    observed: float | None
    """Share on which they agree."""
    kappa: float | None
    """Cohen's: 1 always, 0 as often as by chance; null where both said one thing only."""
    low: float
    """95 % interval, by the profile likelihood; things count as independent."""
    high: float


class Agreement(Described):
    """Every two raters that answered something both."""

    of: AgreementOf
    raters: list[Rater]
    """Those who answered most first, at most 10."""
    pairs: list[AgreementPair]
    """The ones with the most in common first."""
    left_out: int
    """Raters that are not in the list."""
