"""The k largest of each row by the compiled kernel of ``largest.c``."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from monosemy.native.build import library


def largest(pre_NF: Tensor, bias_F: Tensor, k: int) -> tuple[Tensor, Tensor] | None:
    """Values (float32) and indices ``[n, k]`` of the k largest of ``pre + bias`` in each row.

    None where the kernel cannot: no compiler, another device than the CPU, another dtype than
    float32 or bfloat16 (the bias float32).
    """
    names = {torch.float32: "largest_f32", torch.bfloat16: "largest_bf16"}
    usable = pre_NF.device.type == "cpu" and pre_NF.dtype in names and pre_NF.is_contiguous()
    if not usable or bias_F.dtype != torch.float32:
        return None
    kernels = library("largest")
    if kernels is None:
        return None
    n, width = pre_NF.shape
    values, indices = torch.empty(n, k), torch.empty(n, k, dtype=torch.int64)
    bias_F = bias_F.detach().contiguous()
    getattr(kernels, names[pre_NF.dtype])(
        ctypes.c_void_p(pre_NF.data_ptr()),
        ctypes.c_void_p(bias_F.data_ptr()),
        ctypes.c_int64(n),
        ctypes.c_int64(width),
        ctypes.c_int64(k),
        ctypes.c_void_p(values.data_ptr()),
        ctypes.c_void_p(indices.data_ptr()),
        ctypes.c_int(torch.get_num_threads()),
    )
    return values, indices
