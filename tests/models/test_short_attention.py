"""Causal attention by whole scores: what PyTorch's kernel gives, and only where it may stand in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monosemy.models import short_attention
from monosemy.models.short_attention import LONGEST, ShortAttention, attention

HALF = torch.bfloat16


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(HALF)


def _off(result: Tensor, exact: Tensor) -> float:
    return float((result.float() - exact).norm() / exact.norm())


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("at_once", [1, 2**21])
def test_it_gives_what_the_kernel_gives(
    heads: int, groups: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(short_attention, "_SCORES", at_once)
    query, key = _random(3, heads, 20, 16), _random(3, groups, 20, 16, seed=1)
    value = _random(3, groups, 20, 16, seed=2)
    wide = (query.float(), key.float(), value.float())
    exact = F.scaled_dot_product_attention(*wide, is_causal=True, enable_gqa=True, scale=0.3)
    kernel = F.scaled_dot_product_attention(
        query, key, value, is_causal=True, enable_gqa=True, scale=0.3
    )
    own = attention(query, key, value, 0.3)
    assert own.shape == kernel.shape and own.dtype == HALF
    assert _off(own, exact) < 0.01 and _off(kernel, exact) < 0.01
    # The first token sees itself alone.
    assert torch.equal(own[:, :, 0], value.repeat_interleave(heads // groups, 1)[:, :, 0])


_Q = (2, 4, 8, 16)


@pytest.mark.parametrize(
    ("taken", "change"),
    [
        (True, {}),
        (True, {"scale": 0.5}),
        (False, {"is_causal": False}),
        (False, {"attn_mask": torch.ones(8, 8, dtype=torch.bool).tril(), "is_causal": False}),
        (False, {"key": _random(2, 4, 9, 16), "value": _random(2, 4, 9, 16)}),
        (False, {"query": torch.ones(_Q), "key": torch.ones(_Q), "value": torch.ones(_Q)}),
        (False, {"length": LONGEST + 1}),
    ],
)
def test_other_calls_go_their_way(
    taken: bool, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def own(*args: Any) -> Tensor:
        calls.append(args)
        return attention(*args)

    monkeypatch.setattr(short_attention, "attention", own)
    shape = (2, 4, change.pop("length", 8), 16)
    three = {name: change.pop(name, _random(*shape)) for name in ("query", "key", "value")}
    options = {"is_causal": True, **change}
    plain = F.scaled_dot_product_attention(*three.values(), **options)
    with ShortAttention():
        result = F.scaled_dot_product_attention(*three.values(), **options)
    assert bool(calls) == taken
    assert _off(result, plain.float()) < 0.01
    if not taken:
        assert torch.equal(result, plain)
    count = len(calls)
    F.scaled_dot_product_attention(*three.values(), **options)
    assert len(calls) == count  # closed: nothing is touched any more
