"""Transcoders: TopK codes of one site reconstruct another (Dunefsky et al. 2024, arXiv 2406.11944).

The older word for ``topk`` that writes elsewhere: every architecture transcodes, with a skip matrix
if wanted (see ``SAE``).
"""

from __future__ import annotations

from monosemy.saes.topk import TopKSAE
from monosemy.specs import TranscoderSpec


class TranscoderSAE(TopKSAE):
    """``codes = top_k(relu(x @ W_enc + b_enc))``, ``y = codes @ W_dec + b_dec``, with a skip matrix
    ``+ x @ W_skip.T``."""

    spec: TranscoderSpec

    def __init__(self, spec: TranscoderSpec, d_in: int, d_out: int | None = None) -> None:
        super().__init__(spec, d_in, d_in if d_out is None else d_out)
