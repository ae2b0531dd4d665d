"""A dictionary made of what is known: one code for every value of every attribute.

An activation is described as ``mean + sum of the codes of its attributes' values``.  Source: A.
Makelov, G. Lange and N. Nanda, arXiv 2405.08366, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from monosemy.circuits.supervised.task import Values
from monosemy.errors import DataError

Method = Literal["mean", "mse"]

_RANK = 1e-10
"""Eigenvalues of the Gram matrix below this share of the largest one count as 0: counts of prompts
are whole numbers, so that float64 keeps true ones far above it."""


@dataclass(frozen=True)
class SupervisedDictionary:
    """Codes of attributes at one node."""

    values: Values
    mean_D: Tensor
    """``[d]`` float32: of the activations that it was fitted to."""
    rows_UD: Tensor
    """``[values.count, d]`` float32: the code of every value."""

    @classmethod
    def fit(
        cls, acts_ND: Tensor, codes_NK: Tensor, values: Values, method: Method = "mean"
    ) -> SupervisedDictionary:
        """From activations and the code of each prompt's value of each attribute (int64 ``[N, K]``,
        numbered as ``values`` has it).

        ``mean``: a code is the mean of the activations with its value, less the mean of all.
        ``mse``: the codes of least squares, of those the shortest.  Both in float64.  ``DataError``
        for a value that no prompt has and for activations that are not finite.
        """
        if len(acts_ND) != len(codes_NK) or not len(acts_ND):
            raise DataError("There are no prompts to fit a dictionary to.")
        if not acts_ND.isfinite().all():
            raise DataError("Activations at this site are not all finite numbers.")
        counts_U = torch.bincount(codes_NK.flatten(), minlength=values.count).double()
        missing = (counts_U == 0).nonzero().flatten().tolist()
        if missing:
            raise DataError(f"No prompt to fit to has {values.named(missing[0])}.")
        x_ND = acts_ND.double()
        mean_D = x_ND.mean(0)
        sums_UD = x_ND.new_zeros(values.count, x_ND.shape[1])
        centred_ND = x_ND - mean_D
        for k in range(codes_NK.shape[1]):
            sums_UD.index_add_(0, codes_NK[:, k], centred_ND)
        if method == "mean":
            rows_UD = sums_UD / counts_U[:, None]
        else:
            gram_UU = _together(codes_NK, values.count)
            rows_UD = torch.linalg.pinv(gram_UU, rtol=_RANK, hermitian=True) @ sums_UD
        return cls(values, mean_D.float(), rows_UD.float())

    def reconstruct(self, codes_NK: Tensor) -> Tensor:
        """``[N, d]``: what the attributes alone say of activations."""
        return self.mean_D + self.rows_UD[codes_NK].sum(1)

    def edit(self, acts_ND: Tensor, old_N: Tensor, new_N: Tensor) -> Tensor:
        """``[N, d]``: activations with the codes ``old_N`` replaced by ``new_N``."""
        return acts_ND - self.rows_UD[old_N] + self.rows_UD[new_N]


def _together(codes_NK: Tensor, count: int) -> Tensor:
    """``[U, U]`` float64: how many prompts have both values."""
    gram = torch.zeros(count * count, dtype=torch.float64)
    for one in codes_NK.T:
        for other in codes_NK.T:
            gram += torch.bincount(one * count + other, minlength=count * count)
    return gram.view(count, count)


def explained(acts_ND: Tensor, made_ND: Tensor, mean_D: Tensor) -> float:
    """Share of the variance around ``mean_D`` that ``made_ND`` explains (R squared)."""
    left = (acts_ND.double() - made_ND.double()).square().sum()
    whole = (acts_ND.double() - mean_D.double()).square().sum()
    return float(1 - left / whole) if float(whole) > 0 else 0.0
