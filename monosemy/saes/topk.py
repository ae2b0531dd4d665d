"""TopK SAE (Gao et al. 2024, arXiv 2406.04093): the k largest positive pre-activations."""

from __future__ import annotations

import torch
from torch import Tensor

from monosemy.saes.base import SAE
from monosemy.saes.codes import Codes
from monosemy.saes.sparse_ops import selected_values


class TopKSAE(SAE):
    """``codes = top_k(relu((x - b_dec) @ W_enc + b_enc))``."""

    def encode(self, x_ND: Tensor, budget: int | None = None) -> Codes:
        """``budget`` is another k (1 to d_sae); ``ValueError`` outside of that."""
        k = self.spec.k if budget is None else budget
        if not 1 <= k <= self.d_sae:
            raise ValueError(f"a budget of {k} is not between 1 and {self.d_sae}")
        with torch.no_grad():
            largest, indices = self.pre_activations(x_ND).topk(k, dim=-1, sorted=False)
            values = largest.relu_()
        if torch.is_grad_enabled() and self.W_enc.requires_grad:
            centred = x_ND - self.b_dec
            values = selected_values(centred, self.W_enc, self.b_enc, indices, values)
        return Codes(indices, values)
