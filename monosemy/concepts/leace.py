"""LEACE: the smallest affine change after which no linear probe finds a concept.  Needs torch.

Belrose et al. 2023 (arXiv:2306.03819): ``x' = x - S^(1/2) U U^T S^(-1/2) (x - mean)``, where S is
the covariance of x and U an orthonormal basis of the columns of ``S^(-1/2) Cov(x, z)``.  Their
package ``concept-erasure`` computes the same with ``shrinkage=False``.  It is not used: by default
it shrinks S, after which Cov(x', z) is not 0; it leaves alone singular values below an absolute
0.01, so that the result depends on the activations' unit; and it mixes in another projection where
the trace grows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.errors import DataError


@dataclass(frozen=True)
class Eraser:
    """``x - (x - mean) @ out_DR @ into_RD``, float64."""

    mean_D: Tensor
    out_DR: Tensor
    into_RD: Tensor

    def __call__(self, x_ND: Tensor) -> Tensor:
        """``[n, d]`` in the dtype of ``x_ND``."""
        moved_ND = (x_ND.double() - self.mean_D) @ self.out_DR @ self.into_RD
        return (x_ND.double() - moved_ND).to(x_ND.dtype)


def leace(x_ND: Tensor, z_NC: Tensor) -> Eraser:
    """Fitted to activations ``[n, d]`` and labels ``[n, c]`` (or ``[n]``, one concept of two).

    Directions in which the activations do not vary are left alone.  ``DataError`` for fewer than
    two rows, or labels that do not vary.
    """
    x_ND, z_NC = x_ND.double(), z_NC.double().reshape(len(z_NC), -1)
    if len(x_ND) < 2 or not (z_NC.std(0) > 0).all():
        raise DataError("Erasing needs texts with and without the concept.")
    mean_D = x_ND.mean(0)
    centred_ND, labels_NC = x_ND - mean_D, z_NC - z_NC.mean(0)
    _, spread_R, axes_RD = torch.linalg.svd(centred_ND, full_matrices=False)
    kept = spread_R > spread_R[0] * max(x_ND.shape) * torch.finfo(torch.float64).eps
    spread_R, axes_RD = spread_R[kept] / len(x_ND) ** 0.5, axes_RD[kept]
    # All in the coordinates of the principal axes, in which S is diagonal.
    cross_RC = axes_RD @ (centred_ND.T @ labels_NC) / len(x_ND)
    basis_RU, size_U, _ = torch.linalg.svd(cross_RC / spread_R[:, None], full_matrices=False)
    basis_RU = basis_RU[:, size_U > 1e-9 * size_U.max().clamp_min(1e-300)]
    out_DU = axes_RD.T @ (basis_RU / spread_R[:, None])
    into_UD = (basis_RU * spread_R[:, None]).T @ axes_RD
    return Eraser(mean_D, out_DU, into_UD)


def mean_difference(x_ND: Tensor, z_N: Tensor) -> Eraser:
    """The projection that takes out the direction from one class's mean to the other's.

    ``DataError`` as ``leace``, and where the means are the same.
    """
    x_ND, on_N = x_ND.double(), z_N.bool()
    if not on_N.any() or on_N.all():
        raise DataError("Erasing needs texts with and without the concept.")
    row_D = x_ND[on_N].mean(0) - x_ND[~on_N].mean(0)
    if not row_D.norm() > 0:
        raise DataError("Texts with and without the concept have the same mean.")
    row_1D = (row_D / row_D.norm())[None]
    return Eraser(x_ND.mean(0), row_1D.T, row_1D)
