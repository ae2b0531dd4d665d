"""Examples as bytes: what ``features.examples`` holds.  numpy only.

Layout (little endian): ``b"MX"``, version (1 byte), CRC-32 of the rest (4), largest activation
(float32), then varints: number of examples; for each example row, document, position, tokens before
it, tokens from it to the end, group (0 top, 1 negative, 2 + quantile), number of firings with one
flag bit, the firings' offsets (varint gaps, or a bit mask over the window when that is shorter),
and two bytes per firing: activation as a share of the largest, in steps of 1/65535.  So values
come back to within 1/65535 of the feature's largest, everything else exactly.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

from monosemy.errors import DataError
from monosemy.index.examples import NEGATIVE, TOP, Example

MAGIC = b"MX"
VERSION = 1
_STEPS = 65535
_GROUPS = (TOP, NEGATIVE)
_HEADER = struct.Struct("<2sBI")


def examples_to_bytes(examples: Sequence[Example]) -> bytes:
    """The examples, in their order; ``examples_from_bytes`` is the inverse."""
    scale = np.float32(max((max(e.values) for e in examples if e.values), default=0.0))
    body = bytearray(struct.pack("<f", scale))
    _put(body, len(examples))
    for example in examples:
        _put_example(body, example, float(scale))
    return _HEADER.pack(MAGIC, VERSION, zlib.crc32(body)) + bytes(body)


def examples_from_bytes(data: bytes) -> list[Example]:
    """Reads what ``examples_to_bytes`` wrote; ``DataError`` for anything else."""
    data = bytes(data)
    if len(data) < _HEADER.size:
        raise DataError("These bytes are no examples: too short.", "Index the SAE again.")
    magic, version, checksum = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise DataError("These bytes are no examples: wrong first bytes.", "Index the SAE again.")
    if version != VERSION:
        raise DataError(
            f"Examples of version {version}; this program reads version {VERSION}.",
            "Index the SAE again, or use the program that wrote them.",
        )
    body = data[_HEADER.size :]
    if zlib.crc32(body) != checksum:
        raise DataError(
            "The bytes of the examples are damaged: wrong checksum.", "Index the SAE again."
        )
    try:
        return _read_body(body)
    except (IndexError, ValueError, struct.error) as error:
        raise DataError(
            f"The bytes of the examples are damaged: {error}.", "Index the SAE again."
        ) from None


def _put(out: bytearray, value: int) -> None:
    """LEB128: seven bits a byte, lowest first."""
    if value < 0:
        raise ValueError(f"{value} is negative: not a valid example")
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def _put_example(out: bytearray, example: Example, scale: float) -> None:
    before, after = example.position - example.start, example.end - example.position
    group = _GROUPS.index(example.group) if example.group in _GROUPS else int(example.group) + 2
    for value in (
        example.row,
        example.document,
        example.position,
        before,
        after,
        group,
    ):
        _put(out, value)
    length, count = before + after, len(example.offsets)
    as_mask = count > (length + 7) // 8
    _put(out, count * 2 + as_mask)
    if as_mask:
        bits = np.zeros(length, np.uint8)
        bits[list(example.offsets)] = 1
        out += np.packbits(bits, bitorder="little").tobytes()
    else:
        last = -1
        for offset in example.offsets:
            _put(out, offset - last - 1)
            last = offset
    if count:
        shares = np.rint(np.asarray(example.values, np.float64) / scale * _STEPS)
        # A firing stays a firing however weak it is.
        out += np.clip(shares, 1, _STEPS).astype("<u2").tobytes()


class _Cursor:
    """Reads varints and slices, and refuses to run past the end."""

    def __init__(self, data: bytes, place: int) -> None:
        self.data = data
        self.place = place

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.place]
            self.place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def take(self, count: int) -> bytes:
        piece = self.data[self.place : self.place + count]
        if len(piece) != count:
            raise ValueError("they end too early")
        self.place += count
        return piece


def _read_body(body: bytes) -> list[Example]:
    (scale,) = struct.unpack_from("<f", body)
    cursor = _Cursor(body, 4)
    examples = [_read_example(cursor, float(scale)) for _ in range(cursor.varint())]
    if cursor.place != len(body):
        raise ValueError("bytes are left over")
    return examples


def _read_example(cursor: _Cursor, scale: float) -> Example:
    row, document, position, before, after, group = (cursor.varint() for _ in range(6))
    count, as_mask = divmod(cursor.varint(), 2)
    length = before + after
    if as_mask:
        mask = np.frombuffer(cursor.take((length + 7) // 8), np.uint8)
        offsets = np.flatnonzero(np.unpackbits(mask, count=length, bitorder="little")).tolist()
        if len(offsets) != count:
            raise ValueError("a mask holds the wrong number of firings")
    else:
        offsets, last = [], -1
        for _ in range(count):
            last += cursor.varint() + 1
            offsets.append(last)
    shares = np.frombuffer(cursor.take(2 * count), "<u2").astype(np.float64)
    return Example(
        row=row,
        document=document,
        position=position,
        group=_GROUPS[group] if group < 2 else group - 2,
        start=position - before,
        end=position + after,
        offsets=tuple(offsets),
        values=tuple((shares / _STEPS * scale).tolist()),
    )
