"""Arrays in ``.npy`` and ``.npz`` files, read without pickle and without trust.  No torch."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from monosemy.errors import DataError

Array = npt.NDArray[Any]

MOST_BYTES = 32 * 2**30
"""Unpacked, of all arrays of a file."""
MOST_ARRAYS = 1000
_HEADER_BYTES = 10_000
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def array_of(data: bytes) -> Array:
    """The array in the bytes of a ``.npy`` file; writable.

    Raises ``ValueError`` for anything but numbers, and where the header asks for another number of
    bytes than there are: nothing of a claimed size is allocated.
    """
    stream = io.BytesIO(data)
    shape, by_columns, dtype = _header(stream, len(data))
    flat = np.frombuffer(bytearray(memoryview(data)[stream.tell() :]), dtype)
    return flat.reshape(shape, order="F" if by_columns else "C")


def _header(stream: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, whether by columns, dtype) of an array of ``size`` bytes with its header."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"its version {version} is unknown")
    shape, by_columns, dtype = _HEADERS[version](stream, max_header_size=_HEADER_BYTES)
    if dtype.kind not in "iuf":
        raise ValueError(f"it holds {dtype}, no numbers")
    rest = size - stream.tell()
    if math.prod(shape) * dtype.itemsize != rest:
        raise ValueError(f"its header asks for an array {list(shape)}, and {rest} bytes follow")
    return shape, by_columns, dtype


def read_npz(file: Path, most_bytes: int = MOST_BYTES) -> dict[str, Array]:
    """The arrays of a ``.npz`` file by name; ``DataError`` for a file that is damaged, too large,
    holds anything else than arrays of numbers, or numbers that are none."""
    with _members(file, most_bytes) as (archive, names):
        arrays = {name: array_of(archive.read(entry)) for name, entry in names.items()}
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise ValueError(f"{name} holds values that are no numbers")
    return arrays


def check_npz(file: Path, most_bytes: int = MOST_BYTES) -> dict[str, list[int]]:
    """Shapes by name, of headers alone; ``DataError`` as ``read_npz`` has it."""
    shapes = {}
    with _members(file, most_bytes) as (archive, names):
        for name, entry in names.items():
            with archive.open(entry) as stream:
                shapes[name] = list(_header(stream, entry.file_size)[0])
    return shapes


@contextmanager
def _members(
    file: Path, most_bytes: int
) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """The open file and its arrays by name; makes a ``DataError`` of what goes wrong in it."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            check_sizes(entries, file.name, most_bytes)
            names = {entry.filename.removesuffix(".npy"): entry for entry in entries}
            if len(names) != len(entries):
                raise ValueError("it holds an array twice")
            for name, entry in names.items():
                if entry.filename == name:
                    raise ValueError(f"{name[:100]!r} is no array")
            yield archive, names
    except (OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)[:200]
        raise DataError(f"{file.name} is damaged or no file of arrays: {reason}.") from None
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed in another way
        raise DataError(f"{file.name} cannot be read: {str(error)[:200]}.") from None


def check_sizes(entries: list[zipfile.ZipInfo], name: str, most_bytes: int) -> None:
    """``DataError`` where a file unpacks to too many members or bytes.  What a member declares is
    all that can be read of it."""
    if len(entries) > MOST_ARRAYS:
        raise DataError(f"{name} holds more than {MOST_ARRAYS} arrays.")
    if sum(entry.file_size for entry in entries) > most_bytes:
        raise DataError(f"{name} unpacks to more than {most_bytes / 2**30:.3g} GB.")
