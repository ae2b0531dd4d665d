"""The entries above a limit by a kernel: ``above.c`` on CPUs."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from monosemy.native.build import library

_NAMES = {torch.float32: "f32", torch.bfloat16: "bf16"}


def above(
    pre_NF: Tensor, bias_F: Tensor, limit: Tensor | float
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Rows (rising), latents (rising in a row) and values (float32) of the entries of ``pre +
    bias`` that are above ``limit``, a number or ``[F]``.

    None where no kernel can: no compiler, another device than a CPU, another dtype than float32 or
    bfloat16 (the bias float32).
    """
    kind = _NAMES.get(pre_NF.dtype)
    if kind is None or bias_F.dtype != torch.float32 or pre_NF.device.type != "cpu":
        return None
    kernels = library("above") if pre_NF.is_contiguous() else None
    if kernels is None:
        return None
    n, width = pre_NF.shape
    bias_F = bias_F.detach().contiguous()
    limit_F = torch.as_tensor(limit, dtype=torch.float32).expand(width).contiguous()
    threads = ctypes.c_int(torch.get_num_threads())
    sizes = ctypes.c_int64(n), ctypes.c_int64(width)
    given = *(_at(each) for each in (pre_NF, bias_F, limit_F)), *sizes
    counts_N = torch.empty(n, dtype=torch.int64)
    getattr(kernels, f"count_{kind}")(*given, _at(counts_N), threads)
    ends_N = counts_N.cumsum(0)
    count = int(ends_N[-1]) if n else 0
    rows, latents = torch.zeros(2, count, dtype=torch.int64)
    values = torch.zeros(count)
    made = (_at(each) for each in (ends_N, rows, latents, values))
    getattr(kernels, f"take_{kind}")(*given, *made, threads)
    return rows, latents, values


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
