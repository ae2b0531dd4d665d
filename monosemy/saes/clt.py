"""Cross-layer transcoders: BatchTopK over tokens, layers and latents, and JumpReLU.

Decoder rows have unit length over all layers that they are written at, so a pre-activation times
the length of its latent's row, by which latents are selected, is the pre-activation itself.
"""

from __future__ import annotations

from torch import Tensor

from monosemy.saes.batchtopk import BatchTopKSAE
from monosemy.saes.cross_layer import CrossLayer
from monosemy.saes.jumprelu import JumpReLUSAE
from monosemy.saes.penalised import typical_norm
from monosemy.specs import CLTSpec, JumpReLUCLTSpec


class BatchTopKCLT(CrossLayer, BatchTopKSAE):
    """The ``k * n`` largest of a batch of n tokens, over all layers: each token, and each layer,
    takes as many as it needs."""

    spec: CLTSpec


class JumpReLUCLT(CrossLayer, JumpReLUSAE):
    """One threshold per latent."""

    spec: JumpReLUCLTSpec

    def tanh_unit(self, target_ND: Tensor) -> Tensor:
        """The root mean square of a dimension of the target: activations of a quarter of it and
        more count as whole ones, so that they shrink little."""
        return typical_norm(target_ND, self.group) / float(self.d_out) ** 0.5
