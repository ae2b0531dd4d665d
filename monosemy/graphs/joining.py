"""Vectors that join the cotangents of a transposed pass where its targets read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Joining:
    """Of these targets of the batch, at their tokens."""

    column_N: Tensor
    token_N: Tensor
    vector_ND: Tensor


def join(cotangents_PBD: Tensor, joining: Iterable[Joining]) -> bool:
    """Adds them in place; says whether there were any."""
    joined = False
    for each in joining:
        cotangents_PBD.index_put_(
            (each.token_N, each.column_N), each.vector_ND.to(cotangents_PBD), accumulate=True
        )
        joined = True
    return joined
