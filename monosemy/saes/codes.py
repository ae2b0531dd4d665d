"""Sparse activations: what an encoder returns and a decoder takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Codes(NamedTuple):
    """The active latents of ``n`` tokens.

    Where tokens have different numbers of them, rows are padded: an entry with value 0 stands for
    nothing, and its index may be any latent, one that occurs elsewhere in the row too.
    """

    indices: Tensor
    """int64 ``[n, k]``: latents, in no particular order, no active one twice in a row."""
    values: Tensor
    """``[n, k]``: their activations, never negative."""

    def of(self, latents: Sequence[int]) -> Tensor:
        """Activations of these latents, ``[n, len(latents)]``; 0 where one is not active."""
        requested = torch.tensor(latents, dtype=torch.long, device=self.indices.device)
        distinct, column = requested.unique(return_inverse=True)
        place_NK = torch.searchsorted(distinct, self.indices.contiguous()).clamp_max(
            len(distinct) - 1
        )
        hits_NK = distinct[place_NK] == self.indices
        shape = (len(self.indices), len(distinct))
        active_NU = self.values.new_zeros(shape).scatter_add(
            1, place_NK, torch.where(hits_NK, self.values, 0.0)
        )
        return active_NU[:, column]

    def dense(self, d_sae: int) -> Tensor:
        """``[n, d_sae]``; for tests and tiny cases, never on the main path."""
        like = self.values
        full = torch.zeros(like.shape[0], d_sae, dtype=like.dtype, device=like.device)
        return full.scatter_add(1, self.indices, self.values)

    def l0(self) -> Tensor:
        """Active latents per token, ``[n]``."""
        return (self.values > 0).sum(-1)
