"""The contract of every SAE: ``encode`` to sparse codes, ``decode`` back, at any budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from monosemy.saes.codes import Codes
from monosemy.saes.sparse_ops import weighted_rows
from monosemy.specs import SAESpec


class SAE(nn.Module):
    """A dictionary of ``d_sae`` unit-norm rows ``W_dec`` with an encoder and two biases.

    Shapes: ``W_enc [d_in, d_sae]``, ``b_enc [d_sae]``, ``W_dec [d_sae, d_in]``, ``b_dec [d_in]``,
    all float32.  An architecture overrides ``encode`` and says how SAELens writes it down; see
    ``topk.py`` for the pattern.
    """

    saelens_fixed: ClassVar[Mapping[str, Any]] = {
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
    }
    """Keys of SAELens' ``cfg.json`` for which this class computes the right thing with this value
    only; a folder that has another is refused."""

    def __init__(self, spec: SAESpec, d_in: int) -> None:
        super().__init__()
        self.spec = spec
        self.d_in = d_in
        self.d_sae = spec.d_sae
        # Laid out latent by latent: the sparse gradient of the encoder is a set of such rows.
        self.W_enc = nn.Parameter(torch.zeros(spec.d_sae, d_in).T)
        self.b_enc = nn.Parameter(torch.zeros(spec.d_sae))
        self.W_dec = nn.Parameter(torch.zeros(spec.d_sae, d_in))
        self.b_dec = nn.Parameter(torch.zeros(d_in))
        self.product_dtype: torch.dtype | None = None
        """In which dtype ``encode`` multiplies, None for that of the weights; training uses
        bfloat16 where that is faster."""

    @property
    def device(self) -> torch.device:
        return self.W_dec.device

    def initialise(self, generator: torch.Generator) -> None:
        """Random unit decoder rows, encoder = decoder transposed (Gao et al. 2024, A.1)."""
        with torch.no_grad():
            self.W_dec.copy_(torch.randn(self.d_sae, self.d_in, generator=generator))
            self.normalise_decoder()
            self.W_enc.copy_(self.W_dec.T)
            self.b_enc.zero_()
            self.b_dec.zero_()

    def encode(self, x_ND: Tensor, budget: int | None = None) -> Codes:
        """Codes of activations ``[n, d_in]``; ``budget`` asks for another sparsity than trained."""
        raise NotImplementedError

    def decode(self, codes: Codes) -> Tensor:
        """Reconstruction ``[n, d_in]``."""
        return weighted_rows(codes.indices, codes.values, self.W_dec) + self.b_dec

    def forward(self, x_ND: Tensor) -> Tensor:
        return self.decode(self.encode(x_ND))

    def saelens_keys(self) -> dict[str, Any]:
        """What SAELens' ``cfg.json`` holds for this architecture beside the common keys."""
        raise NotImplementedError

    @classmethod
    def saelens_spec(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of ``SAESpec`` that such a ``cfg.json`` determines."""
        raise NotImplementedError

    @torch.no_grad()
    def rescale_input(self, factor: float) -> None:
        """Makes an SAE trained on ``factor * x`` take ``x``: reconstructions shrink with the input.

        Exact for encoders that are positively homogeneous in ``(x, b_dec, b_enc)``, as all
        top-k-like ones are; others override it.
        """
        self.b_enc.div_(factor)
        self.b_dec.div_(factor)

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Sets every decoder row to unit length."""
        self.W_dec.div_(self.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12))

    @torch.no_grad()
    def project_decoder_gradient(self) -> None:
        """Removes from the gradient what would only change a row's length."""
        if self.W_dec.grad is not None:
            parallel = (self.W_dec.grad * self.W_dec).sum(1, keepdim=True)
            self.W_dec.grad.addcmul_(parallel, self.W_dec, value=-1)
