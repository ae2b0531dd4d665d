"""What jsonb takes, by the quick way and by the thorough one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from service.database.storable import storable, storable_json

HOSTILE = [
    {"a": "nul \x00 here"},
    {"key \x00": 1},
    {"half": "\ud800"},
    {"pair": "\ud83d\ude00"},
    [float("nan"), float("inf"), -float("inf")],
    {"numpy": np.float32(1.5), "count": np.int64(3)},
    {"escape": "\\u0000 spelled out", "tuple": (1, 2)},
    {1: "a number for a key"},
]
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(value=ANY)
def test_both_ways_say_the_same(value: Any) -> None:
    assert json.loads(storable_json(value)) == storable(value)


@pytest.mark.integration
@pytest.mark.parametrize("value", HOSTILE, ids=str)
def test_postgres_takes_it(value: Any, engine: Engine) -> None:
    with engine.connect() as connection:
        query = text("SELECT CAST(:value AS jsonb)")
        stored = connection.execute(query, {"value": storable_json(value)}).scalar_one()
    assert stored == storable(value)
