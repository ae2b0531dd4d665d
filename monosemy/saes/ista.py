"""Refinement steps: what the first codes missed is encoded too, before the selection is final.

After a selection with codes f, ISTA adds ``eta * (x - b_dec - f W_dec) @ W_enc`` to the
pre-activations and selects again.  The encoder is linear, so that is one more encoding of
``x - b_dec + eta * residual``: a step costs one sparse decode and one dense product, and nothing of
size ``[n, d_sae]`` is kept.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from monosemy.saes.codes import Codes
from monosemy.saes.sparse_ops import weighted_rows


def refined(
    centred_ND: Tensor,
    W_dec: Tensor,
    steps: int,
    step_size: float,
    select: Callable[[Tensor, int], Codes],
) -> Codes:
    """``select(z, t)`` after ``t = steps`` refinements of ``z``, which starts as ``centred``.

    Differentiable wherever ``select`` is; the selections themselves are not.
    """
    z_ND = centred_ND
    for step in range(steps):
        codes = select(z_ND, step)
        missed_ND = centred_ND - weighted_rows(codes.indices, codes.values, W_dec)
        z_ND = z_ND + step_size * missed_ND
    return select(z_ND, steps)
