"""What attention is really called with: queries, keys, values and patterns, seen as they are used.

Families differ in how queries come about (rotations, norms, scales) and agree in how they are used:
one product with the keys, one softmax, one product with the values, or PyTorch's function that does
all three.  Those calls are seen by a ``TorchFunctionMode`` while an attention module runs, so
nothing is read from names or configurations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

_SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax)
_PRODUCTS = (
    *(torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm),
    *(torch.baddbmm, Tensor.baddbmm),
)
_MASKED = -1e30
"""A score below this is a mask; float16's lowest number is looked at by its own."""


@dataclass(frozen=True)
class AttentionCall:
    """One use of attention, in the dtype of the model; ``H / G`` heads share a key and a value."""

    query_BHSE: Tensor
    key_BGSE: Tensor
    value_BGSV: Tensor
    mask: Tensor | None = None
    """What is added to the scores or, if boolean, where they count; None with ``pattern``."""
    causal: bool = False
    """Whether later tokens are left out beside the mask."""
    scale: float | None = None
    """What products of queries and keys are multiplied by; None where it shows in ``scores``."""
    scores: Tensor | None = None
    """``[B, H, S, S]`` as they enter the softmax, where the model makes them itself."""
    pattern: Tensor | None = None

    def row(self, number: int) -> AttentionCall:
        """What it did with one row of the batch, as a batch of one."""

        def of(tensor: Tensor) -> Tensor:
            return tensor if tensor.shape[0] == 1 else tensor[number : number + 1]

        return replace(
            self,
            query_BHSE=of(self.query_BHSE),
            key_BGSE=of(self.key_BGSE),
            value_BGSV=of(self.value_BGSV),
            mask=None if self.mask is None else of(self.mask),
            scores=None if self.scores is None else of(self.scores),
            pattern=None if self.pattern is None else of(self.pattern),
        )

    @property
    def heads(self) -> int:
        return int(self.query_BHSE.shape[1])

    def spread(self, shared_BG: Tensor) -> Tensor:
        """Keys or values, one for each head."""
        return shared_BG.repeat_interleave(self.heads // shared_BG.shape[1], dim=1)

    def products(self) -> Tensor:
        """Queries times keys, ``[B, H, S, S]`` float32, unscaled."""
        key = self.spread(self.key_BGSE).float()
        return self.query_BHSE.float() @ key.transpose(-1, -2)

    def seen(self) -> Tensor:
        """Where a token may look, bool ``[B or 1, H or 1, S, S]``."""
        if self.scores is not None:
            lowest = max(_MASKED, torch.finfo(self.scores.dtype).min / 2)
            return self.scores > lowest
        length = self.query_BHSE.shape[-2]
        seen = torch.ones(1, 1, length, length, dtype=torch.bool, device=self.query_BHSE.device)
        if self.causal:
            seen = seen.tril()
        if self.mask is not None:
            lowest = _MASKED
            if self.mask.is_floating_point():
                lowest = max(_MASKED, torch.finfo(self.mask.dtype).min / 2)
            seen = seen & (self.mask if self.mask.dtype == torch.bool else self.mask > lowest)
        return seen

    def pattern_of(self) -> Tensor:
        """Who looks where, ``[B, H, S, S]`` float32."""
        if self.pattern is not None:
            return self.pattern.float()
        scores = self.products() * float(self.scale or 0.0)
        if self.mask is not None and self.mask.dtype != torch.bool:
            scores = scores + self.mask.float()
        return scores.masked_fill(~self.seen(), float("-inf")).softmax(-1).nan_to_num(0.0)


class AttentionCalls(TorchFunctionMode):
    """While it is open, in this thread: ``calls`` collects what each watched module does.

    ``modules`` maps attention modules to their layers.  With ``replay``, calls of an earlier
    forward: attention looks where it looked then, whatever queries and keys are now.
    """

    def __init__(
        self,
        modules: Mapping[nn.Module, int],
        replay: Mapping[int, AttentionCall] | None = None,
    ) -> None:
        super().__init__()
        self.calls: dict[int, list[AttentionCall]] = {layer: [] for layer in modules.values()}
        self._modules, self._replay = modules, replay
        self._handles: list[RemovableHandle] = []
        self._layer: int | None = None
        self._product: tuple[Tensor, Tensor, Tensor] | None = None
        self._soft: tuple[Tensor, Tensor] | None = None

    def one(self, layer: int) -> AttentionCall | None:
        """The call of a layer that makes exactly one; None where it makes another number."""
        calls = self.calls[layer]
        return calls[0] if len(calls) == 1 else None

    def __enter__(self) -> AttentionCalls:
        for module, layer in self._modules.items():
            self._handles += [
                module.register_forward_pre_hook(self._entered(layer)),
                module.register_forward_hook(self._left, always_call=True),
            ]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _entered(self, layer: int) -> Callable[..., None]:
        def enter(*_: Any) -> None:
            self._layer, self._product, self._soft = layer, None, None

        return enter

    def _left(self, *_: Any) -> None:
        self._layer = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if self._layer is None:
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._fused(func, args, kwargs)
        if func in _SOFTMAX:
            return self._softmax(func, args, kwargs)
        result = func(*args, **kwargs)
        if func in _PRODUCTS:
            self._multiplied(func, args, kwargs, result)
        return result

    def _fused(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
        given = dict(zip(names, args, strict=False)) | kwargs
        query, key, value = given["query"], given["key"], given["value"]
        assert self._layer is not None
        if self._replay is not None:
            then = self._replay[self._layer]
            query, key = then.query_BHSE, then.key_BGSE
            rest = {name: item for name, item in given.items() if name not in names[:3]}
            return func(query, key, value, **rest)
        result: Tensor = func(*args, **kwargs)
        scale = given.get("scale")
        self.calls[self._layer].append(
            AttentionCall(
                *(query.detach(), key.detach(), value.detach()),
                mask=given.get("attn_mask"),
                causal=bool(given.get("is_causal", False)),
                scale=query.shape[-1] ** -0.5 if scale is None else float(scale),
            )
        )
        return result

    def _softmax(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        result: Tensor = func(*args, **kwargs)
        scores = args[0] if args else kwargs["input"]
        product = self._product
        if product is None or scores.shape[-2:] != product[2].shape[-2:]:
            return result
        assert self._layer is not None
        if self._replay is not None:
            pattern = self._replay[self._layer].pattern
            assert pattern is not None
            return pattern.reshape(result.shape).to(result.dtype)
        self._soft = scores.detach(), result.detach()
        return result

    def _multiplied(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Tensor,
    ) -> None:
        if func in (torch.baddbmm, Tensor.baddbmm):
            left, right = kwargs.get("batch1"), kwargs.get("batch2")
            if left is None:
                left, right = args[1], args[2]
        elif len(args) == 2:
            left, right = args
        else:
            return
        if not isinstance(left, Tensor) or not isinstance(right, Tensor) or left.ndim < 3:
            return
        if self._soft is not None and left.shape[-2:] == self._soft[1].shape[-2:]:
            assert self._layer is not None and self._product is not None
            self.calls[self._layer].append(_eager(*self._product[:2], right, *self._soft))
            self._soft = None
        else:
            self._product = left, right, result


def _eager(
    query: Tensor, key_transposed: Tensor, value: Tensor, scores: Tensor, pattern: Tensor
) -> AttentionCall:
    """Of the tensors of a model that multiplies by itself; some flatten rows and heads."""
    shape = scores.shape if scores.ndim == 4 else (1, *scores.shape)
    rows, heads = int(shape[0]), int(shape[1])

    def apart(flat: Tensor) -> Tensor:
        flat = flat.detach()
        if flat.ndim == 4:
            return flat
        return flat.reshape(rows, flat.shape[0] // rows, *flat.shape[1:])

    return AttentionCall(
        *(apart(query), apart(key_transposed).transpose(-1, -2), apart(value)),
        scores=scores.reshape(rows, heads, *scores.shape[-2:]),
        pattern=pattern.reshape(rows, heads, *pattern.shape[-2:]),
    )
