"""Transcoders: TopK codes of one site reconstruct another (Dunefsky et al. 2024, arXiv 2406.11944),
with a linear map beside them if wanted (skip transcoders, Paulo et al. 2025, arXiv 2501.18823)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from monosemy.errors import DataError
from monosemy.saes.base import Factor
from monosemy.saes.codes import Codes
from monosemy.saes.topk import TopKSAE
from monosemy.specs import TranscoderSpec


class TranscoderSAE(TopKSAE):
    """``codes = top_k(relu(x @ W_enc + b_enc))``, ``y = codes @ W_dec + b_dec (+ x @ W_skip.T)``.

    ``W_skip [d_out, d_in]`` starts at 0, so that at first a skip transcoder is none.
    """

    spec: TranscoderSpec

    def __init__(self, spec: TranscoderSpec, d_in: int, d_out: int | None = None) -> None:
        super().__init__(spec, d_in, d_in if d_out is None else d_out)
        if spec.skip:
            self.W_skip = nn.Parameter(torch.zeros(self.d_out, d_in))

    def decode(self, codes: Codes, x_ND: Tensor | None = None) -> Tensor:
        """``ValueError`` when a skip transcoder is not given the input."""
        reconstruction = super().decode(codes)
        if not self.spec.skip:
            return reconstruction
        if x_ND is None:
            raise ValueError("a skip transcoder decodes with the input at hand: decode(codes, x)")
        return reconstruction + x_ND @ self.W_skip.T

    def skip_matrix(self) -> Tensor | None:
        return self.W_skip.detach() if self.spec.skip else None

    def rescale_directions(self, input_factor: Factor, output_factor: Factor, unit: float) -> None:
        super().rescale_directions(input_factor, output_factor, unit)
        if self.spec.skip:
            by_row = output_factor[:, None] if isinstance(output_factor, Tensor) else output_factor
            self.W_skip.mul_(input_factor / by_row)

    def saelens_export(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        raise DataError(
            "SAELens has no TopK transcoder: its transcoders are ReLU or JumpReLU.",
            "Export it as a sparsify folder.",
        )

    @classmethod
    def saelens_import(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        del tensors
        raise DataError(f"SAELens' {config.get('architecture')} is no TopK transcoder.")
