"""Causal attention over short rows on a CPU, as two batched matrix products.

PyTorch's kernel for CPUs works through tiles; over rows of 128 tokens it runs at a seventh of the
speed of a bfloat16 product.  Whole ``[S, S]`` scores are cheap at that length.  Only calls of
``scaled_dot_product_attention`` are touched, of whatever model makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

LONGEST = 512
"""Tokens of a row.  Up to here it was 2.3 to 2.8 times as fast; half of the scores are masked, so
that tiles win somewhere beyond."""

_SCORES = 2**21
"""Scores at once: they stay in a core's cache."""


def reading(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """What a forward that only reads is run under: ``ShortAttention`` where it can help."""
    helps = device.type == "cpu" and dtype == torch.bfloat16
    return ShortAttention() if helps else nullcontext()


class ShortAttention(TorchFunctionMode):
    """While it is open, in this thread: causal attention in bfloat16 on the CPU, without a mask of
    its own and over at most ``LONGEST`` tokens, is done here; any other call goes its way.

    Scores and shares are rounded to bfloat16, as in a model's plain attention.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and len(args) == 3 and _takes(*args, **kwargs):
            return attention(*args, kwargs.get("scale"))
        return func(*args, **kwargs)


def _takes(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    enable_gqa: bool = False,
    **_scale: Any,
) -> bool:
    length = query.shape[-2]
    same = key.shape[1] == query.shape[1] if not enable_gqa else not query.shape[1] % key.shape[1]
    return (
        query.device.type == "cpu"
        and query.dtype == key.dtype == value.dtype == torch.bfloat16
        and query.dim() == 4
        and key.shape[-2] == value.shape[-2] == length <= LONGEST
        and same
        and is_causal
        and attn_mask is None
        and not dropout_p
    )


def attention(query: Tensor, key: Tensor, value: Tensor, scale: float | None = None) -> Tensor:
    """``[B, H, S, width]`` of queries ``[B, H, S, D]``, keys and values ``[B, G, S, D or width]``;
    ``H / G`` heads share a key.  ``scale`` is ``D ** -0.5`` by default."""
    rows, heads, length, width = query.shape
    groups = key.shape[1]
    scale = width**-0.5 if scale is None else scale
    # Heads that share a key are rows of one product.
    query = query.reshape(rows * groups, (heads // groups) * length, width)
    key = key.reshape(rows * groups, length, width).transpose(1, 2)
    value = value.reshape(rows * groups, length, value.shape[-1])
    mask = _mask(length, heads // groups, query.dtype)
    at_once = max(1, _SCORES // (mask.shape[0] * length))
    parts = [
        torch.softmax(torch.baddbmm(mask.expand(len(q), -1, -1), q, k, alpha=scale), dim=-1) @ v
        for q, k, v in zip(
            query.split(at_once), key.split(at_once), value.split(at_once), strict=True
        )
    ]
    return torch.cat(parts).view(rows, heads, length, -1)


@lru_cache(maxsize=8)
def _mask(length: int, shared: int, dtype: torch.dtype) -> Tensor:
    """0 where a token may look, minus infinity where not, ``[shared * S, S]``."""
    above = torch.ones(length, length, dtype=torch.bool).triu(1)
    mask = torch.zeros(length, length, dtype=dtype).masked_fill_(above, float("-inf"))
    return mask.repeat(shared, 1)
