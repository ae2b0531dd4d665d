"""Radix orders against numpy's own sorts, for keys of any size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monosemy.index.ordering import distinct, first_occurrences, occurrence_number, stable_order

KEYS = st.lists(st.integers(0, 5) | st.integers(0, 2**50), max_size=60).map(
    lambda keys: np.array(keys, np.int64)
)


@given(keys=KEYS)
def test_orders_firsts_and_counts(keys: np.ndarray) -> None:
    order = stable_order(keys, 2**50)
    assert order.tolist() == np.argsort(keys, kind="stable").tolist()
    assert (
        first_occurrences(keys).tolist() == np.sort(np.unique(keys, return_index=True)[1]).tolist()
    )
    listed = keys.tolist()
    assert occurrence_number(keys).tolist() == [listed[:i].count(k) for i, k in enumerate(listed)]
    assert np.sort(keys)[distinct(np.sort(keys))].tolist() == sorted(set(listed))


@pytest.mark.parametrize("largest", [70_000, 199_999, 2**32 - 1])
def test_stable_order_beyond_sixteen_bits(largest: int) -> None:
    keys = np.random.default_rng(0).integers(0, largest + 1, 5000).astype(np.uint32)
    expected = np.argsort(keys.astype(np.int64), kind="stable")
    np.testing.assert_array_equal(stable_order(keys, largest), expected)
