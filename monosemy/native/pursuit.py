"""Matching pursuit by the compiled kernels of ``pursuit.c``.

Worth it once the picks of a batch cost more dense products than the Gram matrix of the dictionary
does.  That matrix is of 16-bit numbers (512 MiB at 16,384 latents) and lives as long as the
process, for the next step to overwrite: mapping that much anew takes as long as filling it.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from typing import NamedTuple

import torch
from torch import Tensor

from monosemy.native.build import library

MAX_GRAM_BYTES = 2 << 30
"""Larger dictionaries (over 32,768 latents) go without."""

_PANEL = 32
_CHUNK_BYTES = 16 << 20
"""Gradients of single picks that exist at once, before they are summed by latent."""


class _Prepared(NamedTuple):
    """A dictionary as the kernels want it."""

    rows: Tensor
    """int16 ``[padded, 2 * pairs]``."""
    packed: Tensor
    """The same in blocks of 16 rows."""
    info: Tensor
    """float32: scale, longest row, longest rounding error."""
    gram: Tensor
    """int16 ``[padded, padded]``."""
    unit: float
    """What 1 means in it."""


class _Cache:
    """The buffer of the Gram matrix, and whose it holds."""

    def __init__(self) -> None:
        self.buffer = torch.empty(0, dtype=torch.int16)
        self.owner: weakref.ref[Tensor] | None = None
        self.version = -1
        self.prepared: _Prepared | None = None

    def find(self, rows: Tensor) -> _Prepared | None:
        same = self.owner is not None and self.owner() is rows and self.version == rows._version
        return self.prepared if same else None

    def keep(self, rows: Tensor, prepared: _Prepared) -> None:
        self.owner, self.version, self.prepared = weakref.ref(rows), rows._version, prepared


_cache = _Cache()


def pursue(
    x_ND: Tensor, rows_FD: Tensor, steps: int, stop_N: Tensor | None
) -> tuple[Tensor, Tensor, Tensor] | None:
    """``(indices, values, residual)``, or None where tensor operations do better or must do."""
    n = x_ND.shape[0]
    if not _fits(x_ND, rows_FD) or not n:
        return None
    kernels = library("pursuit")
    if kernels is None:
        return None
    prepared = _cache.find(rows_FD)
    if prepared is not None:
        picks = _run(kernels, x_ND, rows_FD, prepared, steps, stop_N)
        if picks is not None:
            return picks  # else the rows were changed behind the version counter's back
    padded = -(-rows_FD.shape[0] // _PANEL) * _PANEL
    # A Gram matrix is F products of 16 bits by symmetry; a loop has a float32 one per pick.
    if padded * padded * 2 > MAX_GRAM_BYTES or n * steps * 8 < padded:
        return None
    prepared = _prepare(kernels, rows_FD.detach().contiguous(), padded)
    _cache.keep(rows_FD, prepared)
    return _run(kernels, x_ND, rows_FD, prepared, steps, stop_N)


def _run(
    kernels: ctypes.CDLL,
    x_ND: Tensor,
    rows_FD: Tensor,
    prepared: _Prepared,
    steps: int,
    stop_N: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The picks; None when memory ran out or ``prepared`` turns out to be of other rows."""
    n = x_ND.shape[0]
    rows = rows_FD.detach().contiguous()
    residual = x_ND.detach().clone(memory_format=torch.contiguous_format)
    indices = torch.zeros(n, steps, dtype=torch.int64)
    values = torch.zeros(n, steps)
    stop = None if stop_N is None else stop_N.detach().float().contiguous()
    failed = kernels.monosemy_pursue(
        _at(rows), *_sizes(rows, prepared), _at(prepared.packed), _at(prepared.gram),
        _at(prepared.info), ctypes.c_float(prepared.unit), ctypes.c_int64(n), ctypes.c_int64(steps),
        None if stop is None else _at(stop), _at(residual), _at(indices), _at(values),
        torch.get_num_threads(),
    )  # fmt: skip
    return None if failed else (indices, values, residual)


def gradients(
    indices_NK: Tensor,
    values_NK: Tensor,
    residual_ND: Tensor,
    rows_FD: Tensor,
    d_values_NK: Tensor | None,
    d_residual_ND: Tensor,
) -> tuple[Tensor, Tensor] | None:
    """Gradients to ``x`` and ``rows``, or None as above."""
    n, steps = indices_NK.shape
    if not _fits(residual_ND, rows_FD) or not n:
        return None
    kernels = library("pursuit")
    if kernels is None:
        return None
    d = rows_FD.shape[1]
    rows, g = (
        rows_FD.detach().contiguous(),
        d_residual_ND.clone(memory_format=torch.contiguous_format),
    )
    residual, d_rows = residual_ND.clone(), torch.zeros_like(rows)
    d_values = None if d_values_NK is None else d_values_NK.contiguous()
    chunk = max(1, _CHUNK_BYTES // (4 * steps * d))
    failed = kernels.monosemy_reverse(
        _at(rows), ctypes.c_int64(d), ctypes.c_int64(n), ctypes.c_int64(steps), _at(indices_NK),
        _at(values_NK), None if d_values is None else _at(d_values), _at(residual), _at(g),
        _at(d_rows), ctypes.c_int64(chunk), torch.get_num_threads(),
    )  # fmt: skip
    return None if failed else (g, d_rows)


def _fits(x: Tensor, rows: Tensor) -> bool:
    cpu = x.device.type == "cpu" and rows.device.type == "cpu"
    return cpu and x.dtype == rows.dtype == torch.float32


def _prepare(kernels: ctypes.CDLL, rows: Tensor, padded: int) -> _Prepared:
    d = rows.shape[1]
    pairs = -(-d // 2)
    flat = torch.empty(padded, 2 * pairs, dtype=torch.int16)
    packed, info = torch.empty_like(flat), torch.zeros(3)
    if _cache.buffer.numel() < padded * padded:
        _cache.prepared = None
        _cache.buffer = _large(padded * padded)
    gram = _cache.buffer[: padded * padded]
    threads = torch.get_num_threads()
    sizes = [ctypes.c_int64(size) for size in (rows.shape[0], padded, d, pairs)]
    kernels.monosemy_prepare(_at(rows), *sizes, _at(flat), _at(packed), _at(info), threads)
    kernels.monosemy_gram.restype = ctypes.c_float
    unit = kernels.monosemy_gram(
        _at(flat), _at(packed), sizes[1], sizes[3], _at(info), _at(gram), threads
    )
    return _Prepared(flat, packed, info, gram, unit)


def _sizes(rows: Tensor, prepared: _Prepared) -> list[ctypes.c_int64]:
    padded, columns = prepared.rows.shape
    sizes = (rows.shape[0], padded, rows.shape[1], columns // 2)
    return [ctypes.c_int64(size) for size in sizes]


def _large(numbers: int) -> Tensor:
    """An int16 buffer in huge pages where the system has them: rows are read at random."""
    memory = mmap.mmap(-1, max(2, numbers * 2))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.int16)


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
