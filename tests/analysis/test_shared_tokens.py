"""Co-activation of two SAEs over one text, against counting by hand."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monosemy.analysis.matching import compare, match
from monosemy.analysis.shared_tokens import jaccard_blocks, token_table


class Fires:
    """An index of which only postings are known."""

    def __init__(self, fires_FT: np.ndarray) -> None:
        self.fires = fires_FT
        self.n_features, self.n_tokens = fires_FT.shape

    def postings(self, feature: int) -> tuple[np.ndarray, np.ndarray]:
        positions = np.flatnonzero(self.fires[feature])
        return positions, np.ones(len(positions), np.float32)


def jaccard(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    both = (a[:, None] & b[None]).sum(-1)
    return both / np.maximum((a[:, None] | b[None]).sum(-1), 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(0, 59))
def test_every_pair_as_counted_densely(seed: int, tokens: int, shift: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((9, 60)) < 0.2, rng.random((7, 60)) < 0.3
    table = token_table(Fires(b), tokens)
    blocks = jaccard_blocks(Fires(a), table, tokens, shift % tokens, block=4)
    similarities = torch.cat([block for _, block in blocks]).numpy()
    moved = np.roll(a[:, :tokens], shift % tokens, axis=1)
    np.testing.assert_allclose(similarities, jaccard(moved, b[:, :tokens]), rtol=1e-6)


def test_the_same_features_in_another_order_are_matched() -> None:
    rng = np.random.default_rng(0)
    a = rng.random((50, 2000)) < 0.02
    order = rng.permutation(50)
    table = token_table(Fires(a[order]), 2000)
    comparison = compare(jaccard_blocks(Fires(a), table, 2000), 50, 50, 2)
    partners = match(comparison, "mutual")
    assert (order[partners] == np.arange(50)).all()
    chance = compare(jaccard_blocks(Fires(a), table, 2000, shift=777), 50, 50, 1)
    assert chance.forward.values.max() < 0.3 < comparison.forward.values[:, 0].min()
