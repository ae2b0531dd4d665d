"""Refinement steps: what the first codes missed is encoded too, before the selection is final.

After a selection with codes f, a step of iterative soft thresholding (ISTA; as the SynthSAEBench
recipe trains it) adds ``eta * (x - b_dec - f W_dec) @ W_enc`` to the pre-activations and selects
again.  The encoder is linear, so that is one more encoding of ``x - b_dec + eta * residual``: a
step costs one sparse decode and one dense product, and nothing of size ``[n, d_sae]`` is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

AnyCodes = TypeVar("AnyCodes")


def refined(
    centred_ND: Tensor,
    steps: int,
    step_size: float,
    select: Callable[[Tensor, int], AnyCodes],
    product: Callable[[AnyCodes], Tensor],
) -> AnyCodes:
    """``select(z, t)`` after ``t = steps`` refinements of ``z``, which starts as ``centred``.

    ``product`` is a decoder without its bias.  Differentiable wherever both are; the selections
    themselves are not.
    """
    z_ND = centred_ND
    for step in range(steps):
        missed_ND = centred_ND - product(select(z_ND, step))
        z_ND = z_ND + step_size * missed_ND
    return select(z_ND, steps)
