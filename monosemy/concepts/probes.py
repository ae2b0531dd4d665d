"""Probes that are fitted anew: linear, and radial.  Needs torch.

Ridge regression on the labels 1 and -1, whose penalty is that of the least leave-one-out error, in
closed form.  What is linearly unrelated to the labels gets weights of 0, hence an area of .5.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_PENALTIES = tuple(10.0**power for power in range(-4, 5))
"""Of the mean square of the kernel's diagonal."""
MOST_ROWS = 2000
"""That a radial probe is fitted to."""
_UNRELATED = 1e-7
"""Share of the labels' size below which a covariance is rounding."""

Scored = Callable[[Tensor], Tensor]
"""``[n, d] -> [n]``: the higher, the likelier the concept."""


def linear_probe(x_ND: Tensor, on_N: Tensor) -> Scored:
    """Fitted to rows ``[n, d]`` and which of them have the concept, bool ``[n]``."""
    mean_D, std_D = x_ND.double().mean(0), x_ND.double().std(0)
    std_D = torch.where(std_D > 1e-9 * std_D.max().clamp_min(1e-300), std_D, torch.inf)

    def scaled(x_MD: Tensor) -> Tensor:
        return (x_MD.double() - mean_D) / std_D

    own_ND = scaled(x_ND)
    labels_N = _labels(on_N)
    related = (own_ND.T @ labels_N).abs().max() / (len(labels_N) * labels_N.abs().max())
    if not related > _UNRELATED:
        return lambda x_MD: torch.zeros(len(x_MD), dtype=torch.float64)
    vectors_NR, sizes_R, _ = torch.linalg.svd(own_ND, full_matrices=False)
    weights_N = _ridge(sizes_R.square(), vectors_NR, labels_N)
    row_D = own_ND.T @ weights_N
    return lambda x_MD: scaled(x_MD) @ row_D


def radial_probe(x_ND: Tensor, on_N: Tensor) -> Scored:
    """As ``linear_probe``, of any smooth shape: Gaussian kernel, its width the median distance; of
    many rows evenly spaced ones are taken."""
    own_ND, on_N = (each[:: -(-len(x_ND) // MOST_ROWS)] for each in (x_ND.double(), on_N))
    distance_NN = torch.cdist(own_ND, own_ND).square()
    off = distance_NN[distance_NN > 0]
    width = float(off.median()) if len(off) else 1.0
    kernel_NN = (-distance_NN / width).exp()
    middle_N = kernel_NN.mean(0)
    values_N, vectors_NN = torch.linalg.eigh(_centred(kernel_NN))
    weights_N = _ridge(values_N.clamp_min(0), vectors_NN, _labels(on_N))

    def score(x_MD: Tensor) -> Tensor:
        kernel_MN = (-torch.cdist(x_MD.double(), own_ND).square() / width).exp()
        return (kernel_MN - middle_N) @ (weights_N - weights_N.mean())

    return score


def _labels(on_N: Tensor) -> Tensor:
    labels_N = torch.where(on_N.bool(), 1.0, -1.0).double()
    return labels_N - labels_N.mean()


def _centred(kernel_NN: Tensor) -> Tensor:
    rows = kernel_NN - kernel_NN.mean(0)
    return rows - rows.mean(1, keepdim=True)


def _ridge(values_R: Tensor, vectors_NR: Tensor, labels_N: Tensor) -> Tensor:
    """Dual weights ``[n]`` at the best of the penalties; the kernel is given by its eigenvalues and
    eigenvectors, those of value 0 may be missing."""
    unit = float(values_R.sum()) / len(labels_N) or 1.0
    turned_R = vectors_NR.T @ labels_N
    rest_N = labels_N - vectors_NR @ turned_R
    inside_N = vectors_NR.square().sum(1)
    best: tuple[float, Tensor] | None = None
    for penalty in (share * unit for share in _PENALTIES):
        inverse_R = 1 / (values_R + penalty)
        weights_N = vectors_NR @ (inverse_R * turned_R) + rest_N / penalty
        # Leaving one out: its residual is its weight over the inverse's diagonal.
        diagonal_N = vectors_NR.square() @ inverse_R + (1 - inside_N) / penalty
        error = float((weights_N / diagonal_N).square().mean())
        if best is None or error < best[0]:
            best = error, weights_N
    assert best is not None
    return best[1]
