"""Which entries are kept: against torch.topk and a plain mask, over many shapes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from monosemy.saes import selection
from monosemy.saes.codes import Codes
from monosemy.saes.selection import above_threshold, batch_top_k, top_k


def parts(n: int, d_sae: int, seed: int = 0, d_in: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d_in, generator=generator)
    weight = torch.randn(d_in, d_sae, generator=generator)
    return x, weight, torch.randn(d_sae, generator=generator) * 0.3


def dense(entries: tuple[Tensor, Tensor], d_sae: int) -> Tensor:
    return Codes(*entries).dense(d_sae)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 300), d_sae=st.integers(1, 80), share=st.floats(0.0, 1.2))
def test_batch_top_k_is_top_k_of_everything(n: int, d_sae: int, share: float) -> None:
    x, weight, bias = parts(n, d_sae, seed=n * 81 + d_sae)
    total = max(1, int(share * n * d_sae))
    pre = x @ weight + bias
    positive = pre.relu().flatten()
    wanted = torch.zeros_like(positive)
    kept = positive.topk(min(total, len(positive))).indices
    wanted[kept] = positive[kept]
    selected = dense(batch_top_k(x, weight, bias, total, torch.float32), d_sae)
    torch.testing.assert_close(selected, wanted.view(n, d_sae))


@pytest.mark.parametrize("guess", [None, 0.0, 0.5, 3.0, 1e9])
def test_no_guess_changes_the_result(guess: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(selection._BLOCK_BYTES, "cpu", 1)  # blocks of 64 rows
    x, weight, bias = parts(500, 64)
    x[:64] *= 5  # the first block is no fair sample
    selected = dense(batch_top_k(x, weight, bias, 2000, torch.float32, guess), 64)
    flat = (x @ weight + bias).relu().flatten()
    assert int((selected > 0).sum()) == 2000
    torch.testing.assert_close(selected.flatten().sort().values[-2000:], flat.sort().values[-2000:])


@pytest.mark.parametrize("per_latent", [False, True])
def test_above_threshold_is_a_mask(per_latent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(selection._BLOCK_BYTES, "cpu", 1)
    x, weight, bias = parts(200, 48)
    threshold = torch.rand(48) * 2 if per_latent else torch.tensor(1.3)
    pre = x @ weight + bias
    wanted = pre * (pre > threshold)
    torch.testing.assert_close(
        dense(above_threshold(x, weight, bias, threshold, torch.float32), 48), wanted
    )


def test_nothing_above_is_one_empty_column() -> None:
    x, weight, bias = parts(5, 8)
    indices, values = above_threshold(x, weight, bias, torch.tensor(1e9), torch.float32)
    assert indices.shape == values.shape == (5, 1) and not values.any()
    indices, values = above_threshold(x[:0], weight, bias, torch.tensor(0.0), torch.float32)
    assert indices.shape[0] == values.shape[0] == 0


def test_two_stages_give_what_one_gives() -> None:
    pre = torch.randn(50, 1024, generator=torch.Generator().manual_seed(3))
    values, indices = top_k(pre, 8)
    torch.testing.assert_close(values.sort().values, pre.topk(8).values.sort().values)
    torch.testing.assert_close(pre.gather(1, indices), values)
