"""TopK SAE (Gao et al. 2024, arXiv 2406.04093): the k largest positive pre-activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from monosemy.saes.base import SAE
from monosemy.saes.codes import Codes
from monosemy.saes.selection import top_latents
from monosemy.saes.sparse_ops import selected_values


class TopKSAE(SAE):
    """``codes = top_k(relu((x - b_dec) @ W_enc + b_enc))``."""

    saelens_fixed: ClassVar = {**SAE.saelens_fixed, "rescale_acts_by_decoder_norm": False}

    def encode(self, x_ND: Tensor, budget: int | None = None) -> Codes:
        """``budget`` is another k (1 to d_sae); ``ValueError`` outside of that."""
        k = self.spec.k if budget is None else budget
        if not 1 <= k <= self.d_sae:
            raise ValueError(f"a budget of {k} is not between 1 and {self.d_sae}")
        centred = x_ND - self.b_dec
        dtype = self.product_dtype or self.W_enc.dtype
        indices, largest = top_latents(centred, self.W_enc, self.b_enc, k, dtype)
        values = largest.relu_()
        if torch.is_grad_enabled() and (centred.requires_grad or self.W_enc.requires_grad):
            values = selected_values(centred, self.W_enc, self.b_enc, indices, values)
        return Codes(indices, values)

    def saelens_keys(self) -> dict[str, Any]:
        return {"k": self.spec.k, "rescale_acts_by_decoder_norm": False}

    @classmethod
    def saelens_spec(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return {"architecture": "topk", "d_sae": int(config["d_sae"]), "k": int(config["k"])}
