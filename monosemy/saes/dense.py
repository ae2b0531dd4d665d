"""What the architectures share whose training needs every pre-activation.

A penalty reaches all latents that fire, early in training half of them, so training goes through
``[n, d_sae]``; inference is sparse as everywhere.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from monosemy.saes.base import SAE, TrainingPass
from monosemy.saes.codes import Codes
from monosemy.saes.peers import ALONE, Peers
from monosemy.saes.selection import batch_top_k

START_L0 = 4.0
"""Times the wanted L0: so dense is the start, half of all latents without it."""


class DenseTrainingSAE(SAE):
    """Base of ReLU, Gated and JumpReLU."""

    def reduced_precision(self, x_ND: Tensor) -> AbstractContextManager[object]:
        """Products in ``product_dtype`` where that is not the weights' own."""
        half = self.product_dtype is not None and self.product_dtype != self.W_enc.dtype
        return torch.autocast(x_ND.device.type, dtype=self.product_dtype, enabled=half)

    def reconstruction(self, acts_NF: Tensor) -> Tensor:
        with self.reduced_precision(acts_NF):
            product = acts_NF @ self.W_dec
        return product.to(self.b_dec.dtype) + self.b_dec

    @torch.no_grad()
    def level(self, x_ND: Tensor, l0: float) -> float:
        """The value that ``l0`` of a token's products ``centred @ W_enc`` exceed on average."""
        total = max(1, round(l0 * len(x_ND)))
        nothing = torch.zeros_like(self.W_dec[:, 0])
        _, values = batch_top_k(self.centre(x_ND), self.W_enc, nothing, total, self.W_enc.dtype)
        return float(torch.where(values > 0, values, torch.inf).min())

    @staticmethod
    def passed(
        reconstruction_ND: Tensor, acts_NF: Tensor, terms: dict[str, Tensor]
    ) -> TrainingPass:
        with torch.no_grad():
            fired_F = (acts_NF > 0).sum(0).float()
            l0 = fired_F.sum() / len(acts_NF)
        return TrainingPass(reconstruction_ND, fired_F, l0, terms)

    def bounded(self, codes: Codes, budget: int | float | None) -> Codes:
        """The ``budget`` largest of each token's codes; ``ValueError`` if that is no number."""
        if budget is None:
            return codes
        if not isinstance(budget, int) or not 1 <= budget <= self.d_sae:
            raise ValueError(f"a budget of {budget} is no whole number between 1 and {self.d_sae}")
        if budget >= codes.values.shape[1]:
            return codes
        values, places = codes.values.topk(budget, dim=1, sorted=False)
        return Codes(codes.indices.gather(1, places), values)


def typical_norm(x_ND: Tensor, peers: Peers = ALONE) -> Tensor:
    """Root mean square distance from the mean, a scalar: what a penalty is measured in."""
    with torch.no_grad():
        return (peers.variance(x_ND) / len(x_ND)).sqrt().clamp_min(1e-12)
