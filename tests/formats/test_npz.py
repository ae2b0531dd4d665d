"""Files of arrays: numbers come back as they were, and anything else is refused unread."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monosemy.errors import DataError
from monosemy.formats.archive import check_folder
from monosemy.formats.npz import array_of, check_npz, read_npz

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "by_columns": np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
    "number": np.array(4, dtype=np.int64),
    "empty": np.zeros((0, 3)),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back(save: Any, tmp_path: Path) -> None:
    save(tmp_path / "a.npz", **ARRAYS)
    back = read_npz(tmp_path / "a.npz")
    assert back.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert back[name].dtype == array.dtype and np.array_equal(back[name], array)
        assert back[name].flags.writeable
    shapes = check_npz(tmp_path / "a.npz")
    assert shapes == {name: list(array.shape) for name, array in ARRAYS.items()}


def npy(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def claiming(shape: str) -> bytes:
    """The header of a float64 array of this shape, and one number."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(8)


BAD = {
    "pickle": npy(np.array([{}], dtype=object), allow_pickle=True),
    "text": npy(np.array(["x"])),
    "terabytes": claiming("(1000000000000,)"),
    "overflow": claiming(f"({2**62}, {2**62})"),
    "negative": claiming("(-1,)"),
    "code": claiming("__import__('os')"),
    "cut off": npy(np.zeros(3))[:-1],
    "nothing": b"",
    "no header": b"\x93NUMPY\x01\x00\xff\xff",
    "other version": b"\x93NUMPY\x09\x00" + bytes(100),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_holds_no_numbers_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"."):
        array_of(BAD[kind])
    with zipfile.ZipFile(tmp_path / "params.npz", "w") as file:
        file.writestr("a.npy", BAD[kind])
    for read in (read_npz, check_npz):
        with pytest.raises(DataError, match="damaged or no file of arrays"):
            read(tmp_path / "params.npz")
    with pytest.raises(DataError, match="damaged"):
        check_folder(tmp_path)


def test_what_is_no_number_is_told_when_it_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.array([np.nan]))
    assert check_npz(tmp_path / "a.npz") == {"a": [1]}
    with pytest.raises(DataError, match="no numbers"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"a.txt": b"x"}, "no array"),
        ({f"{place}.npy": npy(np.zeros(1)) for place in range(1001)}, "more than 1000"),
        ({"a.npy": npy(np.zeros(2**17))}, "unpacks to more than"),
    ],
)
def test_other_files_are_refused(members: dict[str, bytes], says: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    with pytest.raises(DataError, match=says):
        read_npz(tmp_path / "a.npz", most_bytes=2**19)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"\x80\x04K\x01.")
    for file in (tmp_path / "a.npz", tmp_path / "missing.npz"):
        with pytest.raises(DataError):
            read_npz(file)
