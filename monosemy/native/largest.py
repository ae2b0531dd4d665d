"""The k largest of each row by a kernel: ``largest.c`` on CPUs, ``gpu/largest.py`` on CUDA."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from monosemy.native.build import library
from monosemy.native.gpu.device import ready

_NAMES = {torch.float32: "largest_f32", torch.bfloat16: "largest_bf16"}


def largest(pre_NF: Tensor, bias_F: Tensor, k: int) -> tuple[Tensor, Tensor] | None:
    """Values (float32) and indices ``[n, k]`` of the k largest of ``pre + bias`` in each row.

    None where no kernel can: no compiler or no triton, another dtype than float32 or bfloat16 (the
    bias float32), on CUDA a k too large for one program (some hundreds; see ``group_size``).
    """
    if pre_NF.dtype not in _NAMES or bias_F.dtype != torch.float32 or not pre_NF.is_contiguous():
        return None
    if ready(pre_NF.device):
        return _on_gpu(pre_NF, bias_F, k)
    return _on_cpu(pre_NF, bias_F, k) if pre_NF.device.type == "cpu" else None


def _on_gpu(pre_NF: Tensor, bias_F: Tensor, k: int) -> tuple[Tensor, Tensor] | None:
    from monosemy.native.gpu import largest as kernels

    size = kernels.group_size(pre_NF.shape[1], k)
    return None if size is None else kernels.largest(pre_NF, bias_F, k, size)


def _on_cpu(pre_NF: Tensor, bias_F: Tensor, k: int) -> tuple[Tensor, Tensor] | None:
    kernels = library("largest")
    if kernels is None:
        return None
    n, width = pre_NF.shape
    values, indices = torch.empty(n, k), torch.empty(n, k, dtype=torch.int64)
    bias_F = bias_F.detach().contiguous()
    getattr(kernels, _NAMES[pre_NF.dtype])(
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
