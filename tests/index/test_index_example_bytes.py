"""Examples as bytes come back, are small, and damage is noticed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monosemy.errors import DataError
from monosemy.index.example_bytes import examples_from_bytes, examples_to_bytes
from monosemy.index.examples import Example


@st.composite
def examples(draw: st.DrawFn) -> Example:
    length = draw(st.integers(1, 80))
    start = draw(st.integers(0, 2**40))
    offsets = tuple(sorted(draw(st.sets(st.integers(0, length - 1), max_size=length))))
    values = draw(
        st.lists(
            st.floats(2.0**-10, 2.0**100, width=32), min_size=len(offsets), max_size=len(offsets)
        )
    )
    return Example(
        row=draw(st.integers(0, 2**33)),
        document=draw(st.integers(0, 2**31)),
        position=start + draw(st.integers(0, length - 1)),
        group=draw(st.one_of(st.just("top"), st.just("negative"), st.integers(0, 300))),
        start=start,
        end=start + length,
        offsets=offsets,
        values=tuple(values),
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(examples(), max_size=12))
def test_round_trip(given_examples: list[Example]) -> None:
    back = examples_from_bytes(examples_to_bytes(given_examples))
    assert len(back) == len(given_examples)
    largest = max((max(e.values) for e in given_examples if e.values), default=0.0)
    for one, other in zip(given_examples, back, strict=True):
        assert dataclasses.replace(one, values=()) == dataclasses.replace(other, values=())
        np.testing.assert_allclose(other.values, one.values, rtol=0, atol=largest / 65535)
        assert all(value > 0 for value in other.values)
        if one.values and max(one.values) == largest:
            assert max(other.values) == largest
    assert examples_to_bytes(back) == examples_to_bytes(given_examples)


def _typical(count: int = 36) -> list[Example]:
    rng = np.random.default_rng(0)
    result = []
    for number in range(count):
        start = int(rng.integers(0, 10**6))
        offsets = tuple(sorted({16, *rng.choice(33, 4, replace=False).tolist()}))
        values = tuple(rng.gamma(2, 3, len(offsets)).astype(np.float32).tolist())
        result.append(
            Example(
                start // 127,
                start // 9000,
                start + 16,
                number % 5,
                start,
                start + 33,
                offsets,
                values,
            )
        )
    return result


def test_thirty_six_examples_take_less_than_1200_bytes() -> None:
    assert len(examples_to_bytes(_typical())) < 1200


def test_any_damage_is_noticed() -> None:
    data = examples_to_bytes(_typical(5))
    for place in range(len(data)):
        broken = data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :]
        with pytest.raises(DataError):
            examples_from_bytes(broken)
    for length in (0, 3, 6, 7, 20, len(data) - 1):
        with pytest.raises(DataError):
            examples_from_bytes(data[:length])
    with pytest.raises(DataError):
        examples_from_bytes(data + b"\0")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_arbitrary_bytes_never_pass_nor_crash(data: bytes) -> None:
    with pytest.raises(DataError):
        examples_from_bytes(data)
    # Even with a right checksum nonsense is either refused or well formed.
    import struct
    import zlib

    signed = struct.pack("<2sBI", b"MX", 1, zlib.crc32(data)) + data
    try:
        examples = examples_from_bytes(signed)
    except DataError:
        return
    assert all(len(e.offsets) == len(e.values) for e in examples)


def test_a_later_version_is_refused_with_advice() -> None:
    data = bytearray(examples_to_bytes([]))
    data[2] = 9
    with pytest.raises(DataError, match="version 9"):
        examples_from_bytes(bytes(data))
    assert examples_from_bytes(examples_to_bytes([])) == []
