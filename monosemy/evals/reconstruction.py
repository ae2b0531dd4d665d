"""How well an SAE reconstructs activations it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.progress import Stage
from monosemy.saes.base import SAE
from monosemy.training.stream import RowSource


@dataclass
class ReconstructionSums:
    """Sums over tokens, in float64, from which FVU and the rest follow."""

    sae: SAE

    def __post_init__(self) -> None:
        self.tokens = 0
        self.squared_error = 0.0
        self.squared_norm = 0.0
        self.active = 0
        self.total = torch.zeros(self.sae.d_in, dtype=torch.float64)
        self.fired = torch.zeros(self.sae.d_sae, dtype=torch.bool)

    @torch.no_grad()
    def add(self, x_ND: Tensor) -> None:
        codes = self.sae.encode(x_ND)
        error = x_ND - self.sae.decode(codes)
        self.tokens += len(x_ND)
        self.squared_error += float(error.double().pow(2).sum())
        self.squared_norm += float(x_ND.double().pow(2).sum())
        self.total += x_ND.double().sum(0)
        self.active += int((codes.values > 0).sum())
        self.fired[codes.indices[codes.values > 0]] = True

    @property
    def mean(self) -> Tensor:
        """Mean activation ``[d_in]``, float32."""
        return (self.total / max(self.tokens, 1)).float()

    def metrics(self) -> dict[str, Any]:
        """``fvu`` = sum ||x - x_hat||^2 / sum ||x - mean||^2, ``l0`` = mean active latents,
        ``never_fired_share`` = share of latents that fired on none of these tokens."""
        variance = self.squared_norm - float(self.total.pow(2).sum()) / max(self.tokens, 1)
        return {
            "tokens": self.tokens,
            "fvu": self.squared_error / variance if variance > 0 else float("nan"),
            "l0": self.active / max(self.tokens, 1),
            "never_fired_share": float((~self.fired).float().mean()),
        }


def reconstruction_sums(
    saes: list[SAE],
    source: RowSource,
    rows: npt.NDArray[np.int64],
    max_tokens: int,
    stage: Stage,
    max_norm: float | None = None,
    rows_at_once: int = 16,
) -> list[ReconstructionSums]:
    """Runs every SAE over the same tokens of ``rows`` until ``max_tokens`` are read.

    Tokens above ``max_norm`` are left out, as they were in training.
    """
    sums = [ReconstructionSums(sae) for sae in saes]
    for start in range(0, len(rows), rows_at_once):
        left = max_tokens - sums[0].tokens
        if left <= 0:
            break
        acts, _ = source.rows(rows[start : start + rows_at_once])
        if max_norm is not None:
            acts = acts[acts.norm(dim=1) <= max_norm]
        acts = acts[:left]
        for each in sums:
            each.add(acts)
        stage.advance(len(acts))
    return sums
