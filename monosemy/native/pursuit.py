"""Matching pursuit by the compiled kernels of ``pursuit.c`` and ``pursuit_gradient.c``.

They find picks in two ways, whichever is less work: by a product per pick, or from the Gram matrix
of the dictionary.  That is of 16-bit numbers (512 MiB at 16,384 latents) and lives as long as the
process, for the next step to overwrite: mapping that much anew takes as long as filling it.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
import weakref
from typing import NamedTuple

import torch
from torch import Tensor

from monosemy.native.build import library

MAX_GRAM_BYTES = 2 << 30
"""Dictionaries of more latents (32,768) go without the matrix."""

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
    gram: Tensor | None = None
    """int16 ``[padded, padded]``."""
    unit: float = 0.0
    """What 1 means in it."""


class _Cache:
    """The dictionary that was used last, and the buffer of its Gram matrix."""

    def __init__(self) -> None:
        self.buffer = torch.empty(0, dtype=torch.int16)
        self.owner: weakref.ref[Tensor] | None = None
        self.version = -1
        self.prepared: _Prepared | None = None
        self.picks = 0
        """How many were made from this dictionary."""

    def find(self, rows: Tensor) -> _Prepared | None:
        same = self.owner is not None and self.owner() is rows and self.version == rows._version
        return self.prepared if same else None

    def keep(self, rows: Tensor, prepared: _Prepared) -> None:
        self.owner, self.version, self.prepared = weakref.ref(rows), rows._version, prepared
        self.picks = 0


_cache = _Cache()
_lock = threading.Lock()


def pursue(
    x_ND: Tensor, rows_FD: Tensor, steps: int, stop_N: Tensor | None
) -> tuple[Tensor, Tensor, Tensor] | None:
    """``(indices, values, residual)``; None where tensor operations must do.

    The same bits by either way of finding the picks, on any number of threads.
    """
    kernels = _kernels("pursuit", x_ND, rows_FD)
    if kernels is None:
        return None
    with _lock:
        reused = _cache.find(rows_FD)
        if reused is None:
            _cache.keep(rows_FD, _prepare(kernels, rows_FD))
        picks = _run(kernels, x_ND, rows_FD, steps, stop_N)
        if picks is None and reused is not None:
            # The rows were changed behind the version counter's back (``rows.data``).
            _cache.keep(rows_FD, _prepare(kernels, rows_FD))
            picks = _run(kernels, x_ND, rows_FD, steps, stop_N)
    return picks


def _run(
    kernels: ctypes.CDLL, x_ND: Tensor, rows_FD: Tensor, steps: int, stop_N: Tensor | None
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The picks; None when memory ran out or what is prepared turns out to be of other rows."""
    n = x_ND.shape[0]
    rows, prepared = rows_FD.detach().contiguous(), _cache.prepared
    assert prepared is not None
    padded = len(prepared.rows)
    # A Gram matrix costs as much as padded / 2 picks by products: made once that many were asked
    # for, it never more than doubles the time, however small the batches are.
    _cache.picks += n * steps
    worth = 2 * _cache.picks > padded and 2 * padded * padded <= MAX_GRAM_BYTES
    if worth and prepared.gram is None:
        prepared = _cache.prepared = _with_gram(kernels, prepared)
    residual = x_ND.detach().clone(memory_format=torch.contiguous_format)
    indices = torch.zeros(n, steps, dtype=torch.int64)
    values = torch.zeros(n, steps)
    stop = None if stop_N is None else stop_N.detach().float().contiguous()
    failed = kernels.monosemy_pursue(
        _at(rows), *_sizes(rows, prepared), _at(prepared.packed), _at(prepared.gram),
        _at(prepared.info), ctypes.c_float(prepared.unit), ctypes.c_int64(n), ctypes.c_int64(steps),
        _at(stop), _at(residual), _at(indices), _at(values), torch.get_num_threads(),
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
    kernels = _kernels("pursuit_gradient", residual_ND, rows_FD)
    if kernels is None:
        return None
    n, steps = indices_NK.shape
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
        _at(values_NK), _at(d_values), _at(residual), _at(g),
        _at(d_rows), ctypes.c_int64(chunk), torch.get_num_threads(),
    )  # fmt: skip
    return None if failed else (g, d_rows)


def _kernels(name: str, x: Tensor, rows: Tensor) -> ctypes.CDLL | None:
    cpu = x.device.type == "cpu" and rows.device.type == "cpu"
    fits = cpu and x.dtype == rows.dtype == torch.float32 and x.numel() > 0
    return library(name) if fits else None


def _prepare(kernels: ctypes.CDLL, rows_FD: Tensor) -> _Prepared:
    rows = rows_FD.detach().contiguous()
    flat = torch.empty(
        -(-rows.shape[0] // _PANEL) * _PANEL, -(-rows.shape[1] // 2) * 2, dtype=torch.int16
    )
    prepared = _Prepared(flat, torch.empty_like(flat), torch.zeros(3))
    kernels.monosemy_prepare(
        _at(rows), *_sizes(rows, prepared), _at(flat), _at(prepared.packed), _at(prepared.info),
        torch.get_num_threads(),
    )  # fmt: skip
    return prepared


def _with_gram(kernels: ctypes.CDLL, prepared: _Prepared) -> _Prepared:
    padded, columns = prepared.rows.shape
    if _cache.buffer.numel() < padded * padded:
        _cache.buffer = _large(padded * padded)
    gram = _cache.buffer[: padded * padded]
    kernels.monosemy_gram.restype = ctypes.c_float
    unit = kernels.monosemy_gram(
        _at(prepared.rows), _at(prepared.packed), ctypes.c_int64(padded),
        ctypes.c_int64(columns // 2), _at(prepared.info), _at(gram), torch.get_num_threads(),
    )  # fmt: skip
    return prepared._replace(gram=gram, unit=unit)


def _sizes(rows: Tensor, prepared: _Prepared) -> list[ctypes.c_int64]:
    padded, columns = prepared.rows.shape
    sizes = (rows.shape[0], padded, rows.shape[1], columns // 2)
    return [ctypes.c_int64(size) for size in sizes]


def _large(numbers: int) -> Tensor:
    """An int16 buffer in huge pages where the system has them: rows are read at random."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(numbers, dtype=torch.int16)
    # Private: shared memory, which is what mmap gives otherwise, has no huge pages.
    memory = mmap.mmap(-1, max(2, numbers * 2), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.int16)


def _at(tensor: Tensor | None) -> ctypes.c_void_p | None:
    return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())
