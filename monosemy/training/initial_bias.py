"""Where the decoder bias starts: the middle of the data, by one measure or another."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

_ROUNDS = 100
_SETTLED = 1e-6
"""A move shorter than this share of the typical distance ends the iteration."""

_ENOUGH = 16_384
"""Points the geometric median is taken of; more move it by less than its own spread."""


@torch.no_grad()
def middle(x_ND: Tensor, measure: Literal["mean", "geometric_median", "zero"]) -> Tensor:
    """``[d]``: the mean of the rows, or the point with the least sum of distances to them."""
    if measure == "zero":
        return torch.zeros_like(x_ND[0])
    if measure == "mean":
        return x_ND.mean(0)
    return geometric_median(x_ND[:: max(1, len(x_ND) // _ENOUGH)])


@torch.no_grad()
def geometric_median(x_ND: Tensor) -> Tensor:
    """Weiszfeld's iteration, with Vardi and Zhang's (2000) care at points that are data points."""
    median = x_ND.mean(0)
    for _ in range(_ROUNDS):
        distance = (x_ND - median).norm(dim=1)
        away = distance > 0
        if not away.any():
            break
        weight = torch.where(away, 1 / distance.where(away, 1.0), 0.0)
        target = weight @ x_ND / weight.sum()
        pull = (weight[:, None] * (x_ND - median)).sum(0).norm()
        standing = float((~away).sum())
        share = min(1.0, standing / float(pull)) if standing and float(pull) > 0 else 0.0
        step = (1 - share) * (target - median)
        median = median + step
        if float(step.norm()) <= _SETTLED * float(distance.mean()):
            break
    return median
