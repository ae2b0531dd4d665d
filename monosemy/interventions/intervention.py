"""What is done to a host model's activations, and where.  No torch: ``edits`` carries it out.

==============  ============================  =============================  ======================
..              add                           ablate, clamp                  replace
==============  ============================  =============================  ======================
Feature         strength times decoder row    its part of the reconstruction
DecoderRow      the same                      the component along the row
Direction       strength times the vector     the component along the vector  strength times vector
Function        strength times its result     (ablate) its result is removed  its result
Reconstruction                                                                the SAE's output
==============  ============================  =============================  ======================

``clamp`` sets what is named to ``strength``, ``ablate`` to 0.  Strengths of a feature are
activations: at 3 it moves the activations as far as the feature does when it is active with 3.  The
SAE's error stays as it is, unless the reconstruction replaces the activations: that drops it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from monosemy.errors import DataError
from monosemy.specs.inference.steering import SteeringMode

How = Literal["add", "ablate", "clamp", "replace"]

ONLY_SAE = "sae"
"""The name of an SAE that is the only one."""


@dataclass(frozen=True)
class Feature:
    """What one latent adds to the reconstruction of each token, wherever its SAE writes."""

    latent: int
    sae: str = ONLY_SAE


@dataclass(frozen=True)
class DecoderRow:
    """The direction a latent writes, whether or not the SAE takes the latent for active."""

    latent: int
    sae: str = ONLY_SAE


@dataclass(frozen=True)
class Direction:
    """A vector at a site."""

    vector: tuple[float, ...]
    """``[width of site]``"""
    site: str

    @classmethod
    def of(cls, vector: Iterable[float], site: str) -> Direction:
        """From a list, an array or a tensor ``[width of site]``."""
        return cls(tuple(float(value) for value in vector), site)


@dataclass(frozen=True)
class Reconstruction:
    """What an SAE makes of the activations: put in their place, its error is dropped."""

    sae: str = ONLY_SAE


@dataclass(frozen=True)
class Function:
    """Any function of a token's activations."""

    apply: Callable[[Any], Any]
    """``[n, width of reads] -> [n, width of site]``, float32 tensors on the host model's device."""
    site: str
    """Where its result goes."""
    reads: str | None = None
    """The site whose activations it takes, not after ``site``; None for ``site`` itself."""


What = Feature | DecoderRow | Direction | Reconstruction | Function

_POSSIBLE: dict[type, tuple[How, ...]] = {
    Feature: ("add", "ablate", "clamp"),
    DecoderRow: ("add", "ablate", "clamp"),
    Direction: ("add", "ablate", "clamp", "replace"),
    Function: ("add", "ablate", "replace"),
    Reconstruction: ("replace",),
}


@dataclass(frozen=True)
class Where:
    """Which tokens; all conditions hold at once.  The caller of the forward chooses rows."""

    positions: tuple[int, ...] | None = None
    """Places in the row, 0 being its first token (BOS, where there is one); None for all."""
    active: Feature | None = None
    """Only tokens at which this feature is active ..."""
    above: float = 0.0
    """... by more than this."""
    when: Callable[[Any], Any] | None = None
    """``[B, S, width] -> bool [B, S]``, from the activations that the intervention reads."""

    def may_meet(self, other: Where) -> bool:
        """Whether both may hold at one token, judged by positions alone."""
        if self.positions is None or other.positions is None:
            return True
        return not set(self.positions).isdisjoint(other.positions)


EVERYWHERE = Where()


@dataclass(frozen=True)
class Intervention:
    """One change; ``DataError`` for what the table above leaves empty."""

    what: What
    how: How
    strength: float = 1.0
    """Has no meaning for ``ablate`` of anything but a function."""
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        name, possible = type(self.what).__name__, _POSSIBLE[type(self.what)]
        if self.how not in possible:
            raise DataError(
                f"'{self.how}' has no meaning for a {name}.", f"It has {', '.join(possible)}."
            )
        if self.strength != self.strength or abs(self.strength) == float("inf"):
            raise DataError(f"A strength is a finite number, not {self.strength}.")

    @property
    def sets(self) -> bool:
        """Whether it says what the result is, not how far to move: two of these contradict."""
        return self.how in ("clamp", "replace") or (
            self.how == "ablate" and not isinstance(self.what, Function)
        )


def add(what: What, strength: float = 1.0, where: Where = EVERYWHERE) -> Intervention:
    """Adds ``strength`` times ``what``."""
    return Intervention(what, "add", strength, where)


def ablate(what: What, where: Where = EVERYWHERE) -> Intervention:
    """Takes ``what`` out: clamps it to 0."""
    return Intervention(what, "ablate", 1.0, where)


def clamp(what: What, strength: float, where: Where = EVERYWHERE) -> Intervention:
    """Sets ``what`` to ``strength``."""
    return Intervention(what, "clamp", strength, where)


def replace(what: What, strength: float = 1.0, where: Where = EVERYWHERE) -> Intervention:
    """Puts ``strength`` times ``what`` in place of the activations."""
    return Intervention(what, "replace", strength, where)


def steer(latent: int, strength: float, mode: SteeringMode = "add") -> Intervention:
    """A steering request's words: ``orthogonal`` clamps the component along the decoder row."""
    if mode == "orthogonal":
        return clamp(DecoderRow(latent), strength)
    if mode == "ablate":
        return ablate(Feature(latent))
    return Intervention(Feature(latent), mode, strength)
