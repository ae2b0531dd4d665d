"""Nearest rows of a matrix of unit vectors, exactly and in bounded memory.  numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from monosemy.errors import DataError

ROWS, COLUMNS = 512, 8192
"""Size of the tiles in which cosines are computed; only one tile is in memory."""

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def unit_rows(vectors_ND: npt.ArrayLike) -> Floats:
    """float32 ``[n, d]`` with rows of length 1; ``DataError`` for one that is zero or not finite,
    or for anything but a matrix."""
    matrix_ND: Floats = np.asarray(vectors_ND, np.float32)
    if matrix_ND.ndim != 2:
        raise DataError(f"A matrix of vectors is needed; this has {matrix_ND.ndim} dimensions.")
    lengths_N1 = np.linalg.norm(matrix_ND, axis=1, keepdims=True)
    if not (np.isfinite(lengths_N1) & (lengths_N1 > 0)).all():
        raise DataError("A vector is zero or not finite, so it has no direction.")
    return np.asarray(matrix_ND / lengths_N1, np.float32)


def nearest_rows(
    unit_ND: Floats, k: int, least: float = -np.inf, later_only: bool = False
) -> tuple[Ints, Floats]:
    """(rows ``[n, k]``, cosines ``[n, k]``) of the k nearest of each row, nearest first.

    A row is no neighbour of itself; cosines below ``least`` do not count, and with ``later_only``
    neither do rows before it (so that a pair is met once).  Missing ones are -1, with cosine -inf;
    of equals the earlier comes first.  O(n^2 d) time, memory of the result and of one tile.
    """
    n = len(unit_ND)
    rows_NK = np.full((n, k), -1, np.int64)
    cosines_NK = np.full((n, k), -np.inf, np.float32)
    for top in range(0, n, ROWS):
        bottom = min(n, top + ROWS)
        best = rows_NK[top:bottom], cosines_NK[top:bottom]
        for left in range(top if later_only else 0, n, COLUMNS):
            right = min(n, left + COLUMNS)
            tile_RC = unit_ND[top:bottom] @ unit_ND[left:right].T
            columns_C = np.arange(left, right)
            own_R = np.arange(top, bottom)[:, None]
            barred_RC = columns_C <= own_R if later_only else columns_C == own_R
            tile_RC[barred_RC | (tile_RC < least)] = -np.inf
            _keep_best(*best, tile_RC, left)
    return rows_NK, cosines_NK


def _keep_best(rows_RK: Ints, cosines_RK: Floats, tile_RC: Floats, left: int) -> None:
    """Puts into the best so far what is better in a tile that begins at column ``left``."""
    k = rows_RK.shape[1]
    if not k:
        return
    better = np.flatnonzero((tile_RC > cosines_RK[:, -1:]).any(axis=1))
    for row in better.tolist():
        columns = np.flatnonzero(tile_RC[row] > cosines_RK[row, -1])
        if len(columns) > k:
            # Ties at the border are cut below, by column.
            border = np.partition(tile_RC[row, columns], len(columns) - k)[len(columns) - k]
            columns = columns[tile_RC[row, columns] >= border]
        both = np.concatenate([rows_RK[row], columns + left])
        values = np.concatenate([cosines_RK[row], tile_RC[row, columns]])
        # Stable: those of earlier tiles, which lie further left, come first among equals.
        order = np.argsort(-values, kind="stable")[:k]
        rows_RK[row], cosines_RK[row] = both[order], values[order]


def pair_cosines(unit_MD: Floats, at_least: float = 1.0) -> dict[str, Any]:
    """Of all pairs of rows: ``pairs``, ``mean`` and ``lowest`` cosine, and the share that reaches
    ``at_least``; None of each for fewer than two rows.  Memory of one tile."""
    m = len(unit_MD)
    if m < 2:
        return {"pairs": 0, "mean": None, "lowest": None, "share": None}
    pairs = m * (m - 1) // 2
    total, reached, lowest = 0.0, 0, np.inf
    for top in range(0, m, ROWS):
        for left in range(top, m, COLUMNS):
            tile_RC = unit_MD[top : top + ROWS] @ unit_MD[left : left + COLUMNS].T
            rows = np.arange(top, top + len(tile_RC))[:, None]
            values = tile_RC[np.arange(left, left + tile_RC.shape[1]) > rows]
            if len(values):
                total += float(values.sum(dtype=np.float64))
                reached += int((values >= at_least).sum())
                lowest = min(lowest, float(values.min()))
    return {"pairs": pairs, "mean": total / pairs, "lowest": lowest, "share": reached / pairs}
