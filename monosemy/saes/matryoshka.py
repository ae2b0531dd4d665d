"""Matryoshka SAE (Bussmann et al. 2025, arXiv 2503.17547): prefixes of the dictionary that
reconstruct by themselves, so that the first latents stay general."""

from __future__ import annotations

import torch
from torch import Tensor

from monosemy.saes.batchtopk import BatchTopKSAE
from monosemy.saes.codes import Codes
from monosemy.saes.selection import padded
from monosemy.saes.sparse_ops import weighted_rows
from monosemy.specs import MatryoshkaSpec


class MatryoshkaSAE(BatchTopKSAE):
    """BatchTopK, plus the FVU of every inner prefix in the loss."""

    spec: MatryoshkaSpec

    @property
    def prefixes(self) -> list[int]:
        """Inner widths, rising."""
        if self.spec.prefixes is not None:
            return self.spec.prefixes
        return sorted({max(1, self.d_sae // share) for share in (16, 4, 2)} - {self.d_sae})

    def further_terms(self, codes: Codes, target_ND: Tensor) -> dict[str, Tensor]:
        variance = (target_ND - target_ND.mean(0)).pow(2).sum().clamp_min(1e-30)
        partial_NGD = self.decode_prefixes(codes)
        error = (partial_NGD - target_ND[:, None]).pow(2).sum()
        return {"prefixes": self.spec.inner_weight * error / variance}

    def decode_prefixes(self, codes: Codes) -> Tensor:
        """Reconstructions ``[n, prefixes, d_out]`` by the latents of each inner prefix alone.

        One sparse decode: each entry goes to the shortest prefix that holds it, and sums over
        prefixes accumulate.
        """
        n, groups = len(codes.indices), len(self.prefixes)
        with torch.no_grad():
            ends = torch.tensor(self.prefixes, device=codes.indices.device)
            group = torch.searchsorted(ends, codes.indices, right=True)
            rows, columns = ((codes.values > 0) & (group < groups)).nonzero(as_tuple=True)
            bags = rows * groups + group[rows, columns]
            entry = rows * codes.indices.shape[1] + columns
            # Where in the flat codes each place of a bag comes from; 0 is padding, hence + 1.
            places, latent = padded(bags, entry + 1, codes.indices[rows, columns], n * groups)
        there = places > 0
        values = codes.values.reshape(-1)[(places - 1).clamp_min(0)]
        # A where, not a product: padding takes the value of some entry, but none of its gradient.
        weights = torch.where(there, values, torch.zeros_like(values))
        parts = weighted_rows(latent, weights, self.W_dec).view(n, groups, self.d_out)
        return parts.cumsum(1) + self.b_dec
