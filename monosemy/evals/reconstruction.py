"""How well an SAE reconstructs activations it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.models.columns import WHOLE, Columns
from monosemy.saes.base import SAE
from monosemy.training.stream import RowSource

ROWS_AT_ONCE = 16

_LEAST_VARIANCE = 1e-12
"""As a share of the squared norm: below it the variance is rounding, of float32 and of our sums."""


class ReconstructionSums:
    """Sums over tokens, in float64, from which FVU and the rest follow."""

    def __init__(self, sae: SAE, parts: Mapping[str, slice] | None = None) -> None:
        """``parts``: which part of what it gives is which place, where those are several."""
        self.sae = sae
        self.parts = dict(parts or {})
        self.tokens = 0
        self.squared_error = 0.0
        self.squared_norm = 0.0
        self.error_parts = dict.fromkeys(self.parts, 0.0)
        self.norm_parts = dict.fromkeys(self.parts, 0.0)
        self.active = 0
        self.total = torch.zeros(sae.d_out, dtype=torch.float64)
        self.activity = torch.zeros(sae.d_sae, dtype=torch.float64)

    @torch.no_grad()
    def add(self, x_ND: Tensor, target_ND: Tensor | None = None) -> None:
        """Takes in activations ``[n, d_in]`` and, for a transcoder, its target ``[n, d_out]``."""
        x_ND = x_ND.to(self.sae.device)
        target_ND = x_ND if target_ND is None else target_ND.to(self.sae.device)
        codes = self.sae.encode(x_ND)
        error = target_ND - self.sae.decode(codes, x_ND)
        target = target_ND.double().cpu()
        self.tokens += len(x_ND)
        self.squared_error += float(error.double().pow(2).sum())
        self.squared_norm += float(target.pow(2).sum())
        self.total += target.sum(0)
        for name, part in self.parts.items():
            self.error_parts[name] += float(error[:, part].double().pow(2).sum())
            self.norm_parts[name] += float(target[:, part].pow(2).sum())
        self.active += int(codes.l0().sum())
        values = codes.values.double().cpu().flatten()
        self.activity.index_add_(0, codes.indices.cpu().flatten(), values)

    @property
    def mean(self) -> Tensor:
        """Mean of what is reconstructed, ``[d_out]``, float32."""
        return (self.total / max(self.tokens, 1)).float()

    def metrics(self) -> dict[str, Any]:
        """fvu, l0, dead_share, tokens; ``parts``, where there are several, the fvu of each place;
        what the architecture says of itself (``SAE.figures``).

        ``fvu`` = sum ||x - x_hat||^2 / sum ||x - mean(x)||^2 over these tokens, None where they do
        not vary; ``dead_share``: latents that fired on none of these tokens, which the rarest
        living ones may do as well.
        """
        result = {
            "fvu": self._fvu(self.squared_error, self.squared_norm, slice(None)),
            "l0": self.active / max(self.tokens, 1),
            "dead_share": float((self.activity == 0).double().mean()),
            "tokens": self.tokens,
        }
        result |= self.sae.figures(self.activity, list(self.parts))
        if len(self.parts) < 2:
            return result
        parts = {
            name: {"fvu": self._fvu(self.error_parts[name], self.norm_parts[name], part)}
            for name, part in self.parts.items()
        }
        return result | {"parts": parts}

    def _fvu(self, squared_error: float, squared_norm: float, part: slice) -> float | None:
        variance = squared_norm - float(self.total[part].pow(2).sum()) / max(self.tokens, 1)
        return squared_error / variance if variance > _LEAST_VARIANCE * squared_norm else None


def reconstruction_sums(
    saes: list[SAE],
    source: RowSource,
    rows: npt.NDArray[np.int64],
    max_tokens: int,
    advance: Callable[[int], None],
    columns: Columns = WHOLE,
    parts: Mapping[str, slice] | None = None,
) -> list[ReconstructionSums]:
    """Runs every SAE over the same tokens of ``rows``, at most ``max_tokens``.

    Tokens that ``columns`` has as not usable are left out, as they were in training.  ``parts``:
    see ``ReconstructionSums``.
    """
    sums = [ReconstructionSums(sae, parts) for sae in saes]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        left = max_tokens - sums[0].tokens
        if left <= 0:
            break
        acts, _ = source.rows(rows[start : start + ROWS_AT_ONCE])
        read, target = columns.reads(acts), columns.target(acts)
        kept = columns.usable(acts)
        read, target = read[kept][:left], None if target is None else target[kept][:left]
        for each in sums:
            each.add(read, target)
        advance(len(read))
    return sums
