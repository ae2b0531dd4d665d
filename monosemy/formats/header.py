"""Checks of foreign JSON and safetensors files without torch, and without reading the weights.

The format is that of the safetensors README: eight bytes with the length of a JSON header (little
endian), the header, then the tensors without gaps.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from monosemy.errors import DataError
from monosemy.json_faults import json_fault

MAX_HEADER_BYTES = 2 * 2**20
MAX_TENSORS = 1000
MAX_JSON_BYTES = 4 * 2**20
MAX_JSON_DEPTH = 32
_MAX_DIMENSIONS = 8

# It matches from any quote, also up to the end, so that it never starts over: time is linear.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_BRACKET = re.compile(rb"[\[{\]}]")

_BITS = {
    **dict.fromkeys(("F64", "I64", "U64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 8),
}
"""Size of one number, by dtype."""


def check_safetensors(file: Path) -> dict[str, list[int]]:
    """Shapes by tensor name; ``DataError`` unless the header is sound and fits the file.

    Sound: bounded, each name once, known dtypes, and tensors that fill the rest of the file without
    gaps or overlaps.  Values are not looked at.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        first = stream.read(8)
        length = int.from_bytes(first, "little")
        if len(first) < 8 or length > size - 8:
            raise _no_safetensors(file, "it is shorter than its header says")
        if length > MAX_HEADER_BYTES:
            raise _no_safetensors(file, f"its header has more than {MAX_HEADER_BYTES} bytes")
        text = stream.read(length)
    if text[:1] != b"{":
        raise _no_safetensors(file, "its header is no JSON object")
    header = parse_json(text, file.name)
    if not isinstance(header, dict):
        raise _no_safetensors(file, "its header is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise _no_safetensors(file, "its metadata are no texts by name")
    if len(header) > MAX_TENSORS:
        raise _no_safetensors(file, f"it holds more than {MAX_TENSORS} tensors")
    places = sorted(_place(file, name, entry) for name, entry in header.items())
    end = 0
    for start, stop, name in places:
        if start != end:
            raise _no_safetensors(file, f"'{name}' overlaps another tensor or leaves a gap")
        end = stop
    if end != size - 8 - length:
        raise _no_safetensors(file, "its tensors and its length do not agree")
    return {name: entry["shape"] for name, entry in header.items()}


def _place(file: Path, name: str, entry: Any) -> tuple[int, int, str]:
    """(first byte, end, name) of a tensor, counted from the end of the header."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _no_safetensors(file, f"'{name[:100]}' is described wrongly")
    shape, offsets, dtype = entry["shape"], entry["data_offsets"], entry["dtype"]
    bits = _BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        raise _no_safetensors(file, f"'{name[:100]}' has an unknown dtype")
    if not _wholes(shape) or len(shape) > _MAX_DIMENSIONS:
        raise _no_safetensors(file, f"'{name[:100]}' has no usable shape")
    if not _wholes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _no_safetensors(file, f"'{name[:100]}' has no usable offsets")
    if math.prod(shape) * bits != (offsets[1] - offsets[0]) * 8:
        raise _no_safetensors(file, f"the shape and the offsets of '{name[:100]}' do not agree")
    return offsets[0], offsets[1], name[:100]


def _wholes(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**63 for v in values)


def _no_safetensors(file: Path, why: str) -> DataError:
    return DataError(f"{file.name} is damaged or no safetensors file: {why}.")


def check_json(file: Path) -> Any:
    """The value in a JSON file; ``DataError`` for one that is too long, too deep or malformed."""
    if file.stat().st_size > MAX_JSON_BYTES:
        raise DataError(f"{file.name} has more than {MAX_JSON_BYTES} bytes.")
    return parse_json(file.read_bytes(), file.name)


def parse_json(text: bytes, name: str) -> Any:
    """``text`` as JSON in UTF-8, each key once, at most ``MAX_JSON_DEPTH`` deep; ``DataError``."""
    if _deeper_than(text, MAX_JSON_DEPTH):
        raise DataError(f"{name} holds JSON that is nested more than {MAX_JSON_DEPTH} deep.")
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:  # bad UTF-8 and giant numbers are ValueErrors too
        raise DataError(f"{name} holds no usable JSON: {json_fault(error)}.") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return entries


def _deeper_than(text: bytes, limit: int) -> bool:
    """Whether brackets outside strings are open more than ``limit`` deep anywhere."""
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", text)):
        depth += 1 if bracket.group() in b"[{" else -1
        if depth > limit:
            return True
    return False
