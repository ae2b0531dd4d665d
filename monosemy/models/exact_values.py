"""Digests of tensors by their values, whatever the dtype that holds them."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

_CHUNK = 1 << 20
"""Values looked at at once."""
_LOW_BITS = 0xFFFF
"""Of a float32: those that bfloat16 does not have."""


def narrowest(value: Tensor) -> Tensor:
    """The same values, flat, in the first of bfloat16, float16, float32 that holds them all
    exactly; other than floating-point numbers and those of 8 bits stay as they are."""
    flat = value.reshape(-1)
    if flat.dtype == torch.float64:
        if not _all(flat, lambda part: part.float().double().eq(part).all()):
            return flat
        flat = flat.float()
    if flat.dtype not in (torch.float32, torch.float16):
        return flat
    if _all(flat, lambda part: not (part.float().view(torch.int32) & _LOW_BITS).any()):
        return flat.to(torch.bfloat16)
    if flat.dtype == torch.float32 and _all(flat, lambda part: part.half().float().eq(part).all()):
        return flat.half()
    return flat


def digest_of(value: Tensor) -> str:
    """32 hex digits over dtype and bytes of a tensor; its shape is not looked at."""
    digest = hashlib.blake2b(str(value.dtype).encode(), digest_size=16)
    flat = value.reshape(-1)
    for part in flat.split(_CHUNK):
        digest.update(part.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _all(flat: Tensor, holds: object) -> bool:
    return all(bool(holds(part)) for part in flat.split(_CHUNK))  # type: ignore[operator]
