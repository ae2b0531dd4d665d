"""Transcoders: TopK codes of one site reconstruct another (Dunefsky et al. 2024, arXiv 2406.11944),
with a linear map beside them if wanted (skip transcoders, Paulo et al. 2025, arXiv 2501.18823)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from monosemy.errors import DataError
from monosemy.saes.codes import Codes
from monosemy.saes.topk import TopKSAE
from monosemy.specs import TranscoderSpec


class TranscoderSAE(TopKSAE):
    """``codes = top_k(relu(x @ W_enc + b_enc))``, ``y = codes @ W_dec + b_dec (+ x @ W_skip.T)``.

    ``W_skip [d_out, d_in]`` starts at 0, so that at first a skip transcoder is none.
    """

    spec: TranscoderSpec

    def __init__(self, spec: TranscoderSpec, d_in: int, d_out: int | None = None) -> None:
        super().__init__(spec, d_in, d_out)
        if spec.skip:
            self.W_skip = nn.Parameter(torch.zeros(self.d_out, d_in))

    def initialise(self, generator: torch.Generator) -> None:
        """Encoder and decoder at random, each row a unit vector: their spaces differ."""
        with torch.no_grad():
            self.W_dec.copy_(torch.randn(self.d_sae, self.d_out, generator=generator))
            self.normalise_decoder()
            rows = torch.randn(self.d_sae, self.d_in, generator=generator)
            self.W_enc.copy_((rows / rows.norm(dim=1, keepdim=True)).T)
            self.b_enc.zero_()
            self.b_dec.zero_()

    def centre(self, x_ND: Tensor) -> Tensor:
        """The input as it is: the decoder's bias lives at another site."""
        return x_ND

    def decode(self, codes: Codes, x_ND: Tensor | None = None) -> Tensor:
        """``ValueError`` when a skip transcoder is not given the input."""
        reconstruction = super().decode(codes)
        if not self.spec.skip:
            return reconstruction
        if x_ND is None:
            raise ValueError("a skip transcoder decodes with the input at hand: decode(codes, x)")
        return reconstruction + x_ND @ self.W_skip.T

    @torch.no_grad()
    def rescale(self, input_factor: float, output_factor: float) -> None:
        # Codes shrink with the output, so that the decoder's rows keep their length.
        self.W_enc.mul_(input_factor / output_factor)
        self.b_enc.div_(output_factor)
        self.b_dec.div_(output_factor)
        if self.spec.skip:
            self.W_skip.mul_(input_factor / output_factor)

    def saelens_export(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        raise DataError(
            "SAELens has no TopK transcoder: its transcoders are ReLU or JumpReLU.",
            "Export it as a sparsify folder.",
        )

    @classmethod
    def saelens_import(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        del tensors
        raise DataError(f"SAELens' {config.get('architecture')} is no TopK transcoder.")
