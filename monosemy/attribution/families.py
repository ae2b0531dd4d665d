"""What an attention feature does, by where its activations come from: fixed rules over figures.

At a token where a feature fires, its direct feature attribution (DFA) says how much each earlier
token adds to its pre-activation.  Of what adds, the share that comes from the first token, the
token before, and so on, puts the feature in a family.  The families are those of Kissane et al.
(2024) and of C. Olsson et al. (2022); the bounds are ours, and stand beside every result with the
shares themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from monosemy.interp.statistics.student import mean_interval
from monosemy.specs.rest.attention import FeatureFamily as Family

FAMILIES: tuple[Family, ...] = get_args(Family)

HALF = 0.5
"""Share of what adds that the first four families need."""
LIFT = 2.0
"""Duplicate and induction: so many times what their tokens would give at such distances by
chance."""
NEAR = 10
"""Tokens back that are local ..."""
LOCAL = 0.8
"""... and the share that has to come from there."""
FAR = 30.0
"""Long range: mean distance in tokens ..."""
SPREAD = 2.0
"""... and entropy over the tokens in nats."""
LEAST = 3
"""Examples without which a feature gets no family."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SourceShares:
    """Of P examples where what adds to the feature comes from, as shares of it, ``[P]`` each."""

    first: Floats
    """From the first position of the row (BOS where there is one)."""
    previous: Floats
    duplicate: Floats
    """From earlier tokens that are the same."""
    induction: Floats
    """From tokens that came after an earlier one that is the same."""
    local: Floats
    """From at most ``NEAR`` tokens back, the token itself included."""
    duplicate_chance: Floats
    """What the same tokens get where only the distance counts: see ``SourceTally.shares``."""
    induction_chance: Floats
    distance: Floats
    """Mean distance in tokens."""
    entropy: Floats
    """Over the tokens, in nats."""
    promoted: Floats
    """From tokens that the feature itself promotes, among those of induction."""


SHARES = ("first", "previous", "duplicate", "induction", "local", "distance", "entropy", "promoted")
"""What is reckoned of an example by itself."""


class SourceTally:
    """Gathers examples row by row, and keeps of each a few numbers and bits."""

    def __init__(self) -> None:
        self._parts: list[dict[str, Floats]] = []
        self._places: list[tuple[Ints, Ints, NDArray[np.int64]]] = []
        self._total, self._count = np.zeros(1), np.zeros(1)
        self._n = 0

    def add(
        self, dfa: Floats, tokens: Ints, at: Ints, promoted: NDArray[np.bool_] | None = None
    ) -> None:
        """``dfa`` ``[P, S]`` by source token, of which what is negative or after ``at`` ``[P]``
        does not count; ``tokens`` ``[S]`` the row; ``promoted`` ``[P, S]`` which tokens are among
        those that the example's feature promotes."""
        places = np.arange(dfa.shape[1])[None]
        before = places <= at[:, None]
        positive = np.where(before, np.maximum(dfa, 0.0), 0.0)
        share = positive / np.maximum(positive.sum(axis=1, keepdims=True), 1e-30)
        distance = np.where(before, at[:, None] - places, 0)
        self._note_distances(share, distance, before)
        same = (tokens[None] == tokens[at][:, None]) & (distance > 0) & before
        after = np.zeros_like(same)
        after[:, 1:] = same[:, :-1]
        after &= before

        def of(mask: NDArray[np.bool_]) -> Floats:
            return np.where(mask, share, 0.0).sum(axis=1)

        logs = np.log(np.maximum(share, 1e-30))
        self._parts.append(
            {
                "first": share[:, 0],
                "previous": of((distance == 1) & before),
                "duplicate": of(same),
                "induction": of(after),
                "local": of((distance <= NEAR) & before),
                "distance": (share * distance).sum(axis=1),
                "entropy": -(share * logs).sum(axis=1),
                "promoted": of(after & promoted) if promoted is not None else np.zeros(len(at)),
                "at": at.astype(np.float64),
            }
        )
        for number, mask in enumerate((same, after)):
            example, place = np.nonzero(mask)
            kind = np.full(len(example), number, np.int64)
            self._places.append((example + self._n, distance[example, place], kind))
        self._n += len(at)

    def _note_distances(self, share: Floats, distance: Ints, before: NDArray[np.bool_]) -> None:
        size = max(len(self._total), share.shape[1])
        self._total = np.pad(self._total, (0, size - len(self._total)))
        self._count = np.pad(self._count, (0, size - len(self._count)))
        self._total += np.bincount(distance[before], weights=share[before], minlength=size)
        self._count += np.bincount(distance[before], minlength=size)

    def shares(self) -> SourceShares:
        """Of all examples, in the order in which they came.

        The chance of a token is the mean share of its distance over all examples, so that tokens
        which merely stand where features read anyway are not taken for a rule.  Examples to which
        nothing adds have shares of 0.
        """
        profile = self._total / np.maximum(self._count, 1)
        reach = np.cumsum(profile)
        names = (*SHARES, "at")
        whole = {
            name: np.concatenate([part[name] for part in self._parts] or [np.empty(0)])
            for name in names
        }
        within = np.maximum(reach[whole.pop("at").astype(np.int64)], 1e-30)
        chance = np.zeros((2, self._n))
        for example, distance, kind in self._places:
            np.add.at(chance, (kind, example), profile[distance])
        return SourceShares(
            **whole, duplicate_chance=chance[0] / within, induction_chance=chance[1] / within
        )


@dataclass(frozen=True)
class FamilyFigures:
    """A feature's family with what it rests on."""

    family: Family
    n: int
    """Examples."""
    share: float | None
    """The share that decides: that of the family, or for none the largest of all."""
    low: float | None
    """Its 95 % interval over the examples."""
    high: float | None
    shares: dict[str, float]
    """Means over the examples, by the names of ``SourceShares``."""


def family_of(shares: SourceShares, which: Ints) -> FamilyFigures:
    """The family of a feature whose examples are ``which`` of those in ``shares``.

    The first rule that holds for the means: more than ``HALF`` from the first token; from the token
    before; from earlier tokens that are the same; from those after such; the last two at least
    ``LIFT`` times what chance gives; more than ``LOCAL`` from ``NEAR`` tokens; a mean distance
    above ``FAR`` with an entropy above ``SPREAD``.  The token before can be one that came after an
    equal one ("a a"), and local tokens can be anything: the rules are asked in this order.
    """
    means = {
        name: float(np.mean(getattr(shares, name)[which])) if len(which) else 0.0
        for name in SourceShares.__dataclass_fields__
    }
    if len(which) < LEAST:
        return FamilyFigures("none", len(which), None, None, None, means)
    family = _rule(means)
    decides = _DECIDES.get(family)
    if decides is None:
        decides = max(_DECIDES.values(), key=lambda name: means[name])
    mean, low, high = mean_interval(getattr(shares, decides)[which].tolist())
    return FamilyFigures(family, len(which), mean, low, high, means)


_DECIDES: dict[str, str] = {
    "first token": "first",
    "previous token": "previous",
    "duplicate": "duplicate",
    "induction": "induction",
    "local": "local",
}


def _rule(means: dict[str, float]) -> Family:
    if means["first"] > HALF:
        return "first token"
    if means["previous"] > HALF and means["previous"] >= means["induction"]:
        return "previous token"
    for family in ("duplicate", "induction"):
        chance = means[f"{family}_chance"]
        if means[family] > HALF and means[family] >= LIFT * chance:
            return family  # type: ignore[return-value]
    if means["previous"] > HALF:
        return "previous token"
    if means["local"] > LOCAL:
        return "local"
    if means["distance"] > FAR and means["entropy"] > SPREAD:
        return "long range"
    return "none"
