"""What an edit does to answers, as shares of what the whole counterfactual activation does.

Answers are logits ``[n, T]`` of the names that a prompt and its counterfactual know, of which the
differences alone count.  An edit that does nothing has a cause of 0 and an isolation of 1; putting
in the whole activation has 1 and 0.  Disentanglement is their product, so that both have 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Effects:
    """Answers to n prompts: as they are, with the whole counterfactual activation, with an edit."""

    clean_NT: Floats
    whole_NT: Floats
    edited_NT: Floats

    @property
    def wanted_NT(self) -> Floats:
        """What the whole activation changes."""
        return _centred(self.whole_NT - self.clean_NT)

    @property
    def size_N(self) -> Floats:
        """How much that is: root of summed squares."""
        return _length(self.wanted_NT)

    @property
    def cause_N(self) -> Floats:
        """How far the edit goes the same way; to be divided by ``size_N``."""
        along_N = (_centred(self.edited_NT - self.clean_NT) * self.wanted_NT).sum(1)
        return np.asarray(along_N / np.maximum(self.size_N, 1e-300))

    @property
    def isolation_N(self) -> Floats:
        """How much less the edit changes than the whole activation does; likewise."""
        return self.size_N - _length(_centred(self.edited_NT - self.clean_NT))

    @property
    def turned_N(self) -> Floats:
        """1 where the whole activation changes which name is the likeliest, else 0."""
        return (self.whole_NT.argmax(1) != self.clean_NT.argmax(1)).astype(float)

    @property
    def follows_N(self) -> Floats:
        """Of those, 1 where the edit makes the same name the likeliest."""
        return self.turned_N * (self.edited_NT.argmax(1) == self.whole_NT.argmax(1))

    @property
    def stays_N(self) -> Floats:
        """Of those, 1 where the edit leaves the likeliest name as it is."""
        return self.turned_N * (self.edited_NT.argmax(1) == self.clean_NT.argmax(1))


def disentanglement(cause: Floats, isolation: Floats) -> Floats:
    """The product of both, each taken into 0 to 1."""
    return np.asarray(np.clip(cause, 0, 1) * np.clip(isolation, 0, 1))


def _centred(x_NT: Floats) -> Floats:
    return np.asarray(x_NT - x_NT.mean(1, keepdims=True))


def _length(x_NT: Floats) -> Floats:
    return np.asarray(np.sqrt((x_NT**2).sum(1)))
