"""How near an explanation and a text lie in a host model's states, layer by layer.  numpy only.

A linear map of the states of both, read together, cannot say whether two things match for
explanations it never saw; a product of the two can.  What each kind of text has in common (a
description is no window of prose) is taken out first: otherwise it is most of every cosine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from monosemy.interp.probe.linear import Floats

RELATION = "relation"
"""Name of the view: mean states of explanations and of texts, each read alone, ``[N, 2, L, D]`` in
one row."""

_SCALE = 10.0
"""Cosines are small beside the other views' columns, and the penalty is the same."""
_TINY = 1e-6


@dataclass(frozen=True)
class Relation:
    """Centres and scales of both kinds of states, float64 ``[2, L, D]``."""

    centre_KLD: Floats
    scale_KLD: Floats

    @classmethod
    def fit(cls, states_NX: Floats, layers: int) -> Self:
        """Of ``[N, 2 * L * D]`` rows as ``ProbeStates`` gives them."""
        states_NKLD = _unfolded(states_NX, layers)
        return cls(states_NKLD.mean(0), states_NKLD.std(0) + _TINY)

    @property
    def layers(self) -> int:
        return int(self.centre_KLD.shape[1])

    def __call__(self, states_NX: Floats) -> Floats:
        """Cosines, ten times, ``[N, L]``."""
        states_NKLD = (_unfolded(states_NX, self.layers) - self.centre_KLD) / self.scale_KLD
        said_NLD, text_NLD = states_NKLD[:, 0], states_NKLD[:, 1]
        length_NL = np.linalg.norm(said_NLD, axis=-1) * np.linalg.norm(text_NLD, axis=-1)
        cosine_NL = (said_NLD * text_NLD).sum(-1) / np.maximum(length_NL, _TINY)
        return np.asarray(_SCALE * cosine_NL, dtype=np.float64)

    def tensors(self) -> dict[str, Floats]:
        """For a file; ``of`` undoes it."""
        return {"relation.centre": self.centre_KLD, "relation.scale": self.scale_KLD}

    @classmethod
    def of(cls, tensors: Mapping[str, Floats]) -> Self:
        """Raises ``KeyError`` or ``ValueError`` for others than ``tensors`` made."""
        found = cls(tensors["relation.centre"], tensors["relation.scale"])
        shape = found.centre_KLD.shape
        if len(shape) != 3 or shape[0] != 2 or found.scale_KLD.shape != shape:
            raise ValueError(f"a relation of shape {shape}")
        return found


def _unfolded(states_NX: Floats, layers: int) -> Floats:
    return np.asarray(states_NX, dtype=np.float64).reshape(len(states_NX), 2, layers, -1)
