"""Which features are a head's, and the head whose features have two meanings."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from monosemy.attribution.head_features import (
    head_shares,
    likeness,
    logit_bases,
    share_entropy,
)
from monosemy.errors import DataError
from tests.support.tiny_host import make_tiny_host, make_tiny_tokenizer

HEADS, D_HEAD, PER_HEAD = 6, 16, 10
SITE = "blocks.1.attn.hook_z"


@pytest.fixture(scope="module")
def host() -> Any:
    return make_tiny_host(make_tiny_tokenizer())


def planted(seed: int, two: int) -> Tensor:
    """Decoder rows, ``PER_HEAD`` to a head, and as many again that all heads share; those of a head
    have one theme, but for head ``two``, which has two that are unrelated."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    themes = torch.linalg.qr(normal(HEADS, D_HEAD, 2)).Q
    rows = 0.02 * normal(2 * HEADS * PER_HEAD, HEADS, D_HEAD)
    for head in range(HEADS):
        for i in range(PER_HEAD):
            theme = themes[head, :, i % 2 if head == two else 0]
            rows[head * PER_HEAD + i, head] = theme + 0.2 * normal(D_HEAD)
    rows[HEADS * PER_HEAD :] = 0.3 * normal(HEADS * PER_HEAD, HEADS, D_HEAD)
    return rows.flatten(1)


def test_shares_are_those_of_the_parts_and_add_up_to_one() -> None:
    rows_FZ = torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.0, 1.0, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0]])
    shares_FH = head_shares(rows_FZ, 2)
    assert shares_FH.tolist() == [[1.0, 0.0], [0.5, 0.5], [0.0, 0.0]]
    assert share_entropy(shares_FH).tolist() == pytest.approx([0.0, math.log(2), 0.0])


@pytest.mark.parametrize("heads", [0, 3])
def test_a_width_that_does_not_fit_is_refused(heads: int) -> None:
    with pytest.raises(DataError, match="width of 4"):
        head_shares(torch.ones(2, 4), heads)


def test_the_head_of_two_meanings_is_the_least_alike() -> None:
    lowest, told = 0, 0
    among = torch.ones(2 * HEADS * PER_HEAD, dtype=torch.bool)
    bases = torch.eye(D_HEAD).expand(HEADS, D_HEAD, D_HEAD)
    for seed in range(10):
        two = seed % HEADS
        heads = likeness(planted(seed, two), bases, among, draws=200)
        lowest += min(heads, key=lambda each: each.cosine).head == two
        told += all(each.p < 0.05 for each in heads if each.head != two)
        for each in heads:
            assert set(each.features) == set(
                range(each.head * PER_HEAD, (each.head + 1) * PER_HEAD)
            )
            assert abs(each.random) < 0.1 and each.q >= each.p
    assert lowest >= 9 and told == 10


def test_of_random_rows_p_is_uniform() -> None:
    rows_FZ = torch.randn(400, HEADS * D_HEAD, generator=torch.Generator().manual_seed(0))
    bases = torch.eye(D_HEAD).expand(HEADS, D_HEAD, D_HEAD)
    among = torch.ones(400, dtype=torch.bool)
    p = [
        each.p
        for seed in range(8)
        for each in likeness(rows_FZ.roll(seed, 1), bases, among, draws=200, seed=seed)
    ]
    assert 0.3 < sum(p) / len(p) < 0.7
    assert sum(each < 0.05 for each in p) <= 8


def test_silent_features_are_nobodys() -> None:
    rows_FZ = planted(0, 0)
    among = torch.ones(len(rows_FZ), dtype=torch.bool)
    among[:5] = False
    bases = torch.eye(D_HEAD).expand(HEADS, D_HEAD, D_HEAD)
    heads = likeness(rows_FZ, bases, among, draws=20)
    assert not any(each < 5 for head in heads for each in head.features)
    with pytest.raises(DataError, match="There are 3 features"):
        likeness(rows_FZ, bases, torch.arange(len(rows_FZ)) < 3, draws=20)


def test_bases_measure_what_a_part_adds_to_the_centred_logits(host: Any) -> None:
    heads, width = host.abilities.heads, host.site_width(SITE)
    bases = logit_bases(host, SITE, heads)
    W_U, gain = host.unembedding()
    rows_FZ = torch.randn(5, width, generator=torch.Generator().manual_seed(0))
    for head in range(heads):
        only_FZ = torch.zeros_like(rows_FZ).unflatten(1, (heads, -1))
        only_FZ[:, head] = rows_FZ.unflatten(1, (heads, -1))[:, head]
        logits_FV = (host.output_directions(SITE, only_FZ.flatten(1)) * gain) @ W_U
        logits_FV = logits_FV - logits_FV.mean(dim=1, keepdim=True)
        small_Fd = rows_FZ.unflatten(1, (heads, -1))[:, head] @ bases[head]
        expected = logits_FV @ logits_FV.T
        assert torch.allclose(small_Fd @ small_Fd.T, expected, rtol=1e-3, atol=1e-3)
