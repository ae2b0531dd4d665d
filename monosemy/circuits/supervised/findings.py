"""What a dictionary finds of an attribute, what is occluded and what is split: rules with figures.

* An attribute is *read* at a node where the supervised dictionary's codes tell its values on the
  test half with an F1 of at least ``READ``.
* A dictionary *finds* it where single features have a mean F1 of at least ``FOUND``.
* It is *split* where single features have not, and unions of features have.
* It is *occluded* where it is read and neither holds.

An F1 counts only as far as it is above what labels that say nothing give (shuffled ones, and a
feature that always fires): it must go at least half of the way from there to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from monosemy.circuits.supervised.attribute_f1 import AttributeF1, Ints, mean_f1
from monosemy.circuits.supervised.dictionary import SupervisedDictionary
from monosemy.interp.statistics.bootstrap import Bootstrapped

READ, FOUND = 0.8, 0.6
HALF_WAY = 0.5
_SHRINKAGE = 0.1
"""Of the covariance within values towards a multiple of the identity."""

Verdict = Literal["unread", "found", "split", "occluded"]


@dataclass(frozen=True)
class ReadOut:
    """How well the supervised dictionary's codes tell the values of an attribute."""

    f1: Bootstrapped
    """Mean over the values, test half."""
    chance: float
    """F1 of guessing each of V values alike often: 1 / V."""
    length: float
    """Mean norm of the attribute's codes, weighted by prompts."""

    @property
    def reads(self) -> bool:
        """Whether the attribute is there to be found."""
        return clears(self.f1.value, READ, self.chance)


def clears(f1: float | None, least: float, chance: float) -> bool:
    """Whether an F1 is large by itself, and beside what chance gives."""
    return f1 is not None and f1 >= least and (f1 - chance) >= HALF_WAY * (1 - chance)


def read_out(
    dictionary: SupervisedDictionary,
    attribute: int,
    fit: tuple[Tensor, Ints],
    test: tuple[Tensor, Ints],
    resamples: int,
    seed: int,
) -> ReadOut:
    """Of (activations ``[n, d]``, values from 0) of both halves: the value whose code is nearest in
    the metric of the activations' covariance within values (a linear discriminant)."""
    starts = dictionary.values.starts
    rows_VD = dictionary.rows_UD[starts[attribute] : starts[attribute + 1]].double()
    labels_N = torch.from_numpy(fit[1])
    within_ND = fit[0].double() - dictionary.mean_D.double() - rows_VD[labels_N]
    covariance_DD = within_ND.T @ within_ND / max(len(within_ND) - 1, 1)
    scale = float(covariance_DD.diagonal().mean()) + 1e-12
    shrunk_DD = (1 - _SHRINKAGE) * covariance_DD
    shrunk_DD += _SHRINKAGE * scale * torch.eye(len(covariance_DD), dtype=torch.float64)
    towards_DV = torch.linalg.solve(shrunk_DD, rows_VD.T)
    centred_ND = test[0].double() - dictionary.mean_D.double()
    scores_NV = centred_ND @ towards_DV - (rows_VD.T * towards_DV).sum(0) / 2
    guess_NV = np.eye(len(rows_VD), dtype=bool)[scores_NV.argmax(1).numpy()]
    truth_NV = np.eye(len(rows_VD), dtype=bool)[test[1]]
    return ReadOut(
        mean_f1(guess_NV, truth_NV, resamples, seed),
        1 / len(rows_VD),
        float(rows_VD[labels_N].norm(dim=1).mean()),
    )


def verdict(read: ReadOut, found: AttributeF1) -> Verdict:
    """What a dictionary makes of an attribute, by the rules above."""
    if not read.reads:
        return "unread"
    chance = max(found.null, found.always)
    if clears(found.single.value, FOUND, chance):
        return "found"
    return "split" if clears(found.union.value, FOUND, chance) else "occluded"


def occluded_by(
    attribute: str, reads: dict[str, ReadOut], verdicts: dict[str, Verdict]
) -> str | None:
    """Of an occluded attribute, the one whose codes are longest among those that are found or split
    at the same node with codes longer than its own; None where there is none."""
    others = [
        name
        for name, each in verdicts.items()
        if name != attribute
        and each in ("found", "split")
        and reads[name].length > reads[attribute].length
    ]
    return max(others, key=lambda name: reads[name].length, default=None)
