"""Which features of two SAEs belong together: nearest neighbours both ways, mutual ones, and the
best assignment of one to one.

Similarities come in blocks of rows, so that no [n, m] matrix is held unless an exact assignment of
a small one is asked for.  Over decoder cosines both are how dictionaries of different seeds and
sizes are compared (Sharkey et al. 2022, mean max cosine similarity; Paulo and Belrose 2025,
Hungarian matching).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Method = Literal["mutual", "hungarian"]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

EXACT_PAIRS = 2**24
"""Up to so many pairs (4,096 squared) the assignment is exact; beyond, greedy over candidates."""


@dataclass(frozen=True)
class Nearest:
    """For each row the most similar of the other side, best first; equal ones in any order."""

    indices: Ints
    """[n, k]"""
    values: Floats
    """[n, k]"""


@dataclass(frozen=True)
class Compared:
    """Both directions of one comparison."""

    forward: Nearest
    """For each row of the first side."""
    backward: Nearest
    """For each row of the second."""
    dense: Floats | None
    """[n, m], where it was asked for."""


def cosine_blocks(a_ND: Tensor, b_MD: Tensor, block: int = 1024) -> Iterable[tuple[int, Tensor]]:
    """``(first row, cosines [rows, M])`` of rows of ``a_ND`` with all of ``b_MD``."""
    unit_a = torch.nn.functional.normalize(a_ND.float(), dim=1)
    unit_b = torch.nn.functional.normalize(b_MD.float(), dim=1)
    for first in range(0, len(unit_a), block):
        yield first, unit_a[first : first + block] @ unit_b.T


@torch.no_grad()
def compare(
    blocks: Iterable[tuple[int, Tensor]], n: int, m: int, k: int, dense: bool = False
) -> Compared:
    """Reads similarities [rows, m] block by block, from the first of ``n`` rows to the last."""
    wide, tall = min(k, m), min(k, n)
    forward_indices = np.zeros((n, wide), np.int64)
    forward_values = np.zeros((n, wide), np.float32)
    best_values = torch.full((m, tall), -torch.inf)
    best_indices = torch.zeros((m, tall), dtype=torch.int64)
    kept = np.zeros((n, m), np.float32) if dense else None
    for first, similarity in blocks:
        rows = len(similarity)
        values, indices = similarity.topk(wide, dim=1)
        forward_values[first : first + rows] = values.cpu().numpy()
        forward_indices[first : first + rows] = indices.cpu().numpy()
        values, indices = similarity.T.topk(min(tall, rows), dim=1)
        values = torch.cat([best_values, values.cpu()], dim=1)
        indices = torch.cat([best_indices, indices.cpu() + first], dim=1)
        best_values, order = values.topk(tall, dim=1)
        best_indices = indices.gather(1, order)
        if kept is not None:
            kept[first : first + rows] = similarity.cpu().numpy()
    return Compared(
        Nearest(forward_indices, forward_values),
        Nearest(best_indices.numpy(), best_values.numpy()),
        kept,
    )


def match(compared: Compared, method: Method) -> Ints:
    """For each row of the first side its partner on the second, or -1: [n]."""
    if method == "mutual":
        return mutual(compared.forward.indices[:, 0], compared.backward.indices[:, 0])
    if compared.dense is not None:
        return assign(compared.dense)
    return assign_greedily(compared)


def mutual(forward: Ints, backward: Ints) -> Ints:
    """Partners that are each other's nearest: [n], -1 where there is none."""
    own = np.arange(len(forward))
    return np.where(backward[forward] == own, forward, -1)


def assign(similarity_NM: Floats) -> Ints:
    """The one-to-one assignment of the largest sum (Hungarian): [n], -1 for rows left over."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(similarity_NM, maximize=True)
    partners = np.full(len(similarity_NM), -1, np.int64)
    partners[rows] = columns
    return partners


def assign_greedily(compared: Compared) -> Ints:
    """One to one over the candidates of both sides, the most similar pair first: [n], -1 for none.

    The sum is at least half of the best one's over these candidates.
    """
    n, wide = compared.forward.indices.shape
    m, tall = compared.backward.indices.shape
    rows = np.concatenate([np.repeat(np.arange(n), wide), compared.backward.indices.ravel()])
    columns = np.concatenate([compared.forward.indices.ravel(), np.repeat(np.arange(m), tall)])
    values = np.concatenate([compared.forward.values.ravel(), compared.backward.values.ravel()])
    partners = np.full(n, -1, np.int64)
    taken = np.zeros(m, bool)
    for place in np.argsort(-values, kind="stable"):
        row, column = rows[place], columns[place]
        if partners[row] < 0 and not taken[column]:
            partners[row] = column
            taken[column] = True
    return partners


def rotated(b_MD: Tensor, seed: int = 0) -> Tensor:
    """``b_MD`` turned at random: the same geometry, and nothing to do with another SAE."""
    generator = torch.Generator().manual_seed(seed)
    width = b_MD.shape[1]
    normal = torch.randn(width, width, generator=generator, dtype=torch.float64)
    rotation, upper = torch.linalg.qr(normal)
    rotation = rotation * upper.diagonal().sign()  # uniform over rotations (Mezzadri 2007)
    return b_MD.float() @ rotation.to(b_MD.device, torch.float32)
