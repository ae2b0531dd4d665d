"""Uploads are unpacked whole and unchanged, or refused for what is wrong with them."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from monosemy.errors import DataError
from monosemy.formats.archive import (
    Limits,
    check_folder,
    check_names,
    sae_folder_in,
    unpack,
)
from monosemy.formats.header import check_json, check_safetensors
from tests.support.hostile import CONFIG, SOUND, safetensors, tarred, zipped

WEIGHTS = safetensors()
LIMITS = Limits()


def opened(data: bytes, name: str, tmp_path: Path, limits: Limits = LIMITS) -> Path:
    file, folder = tmp_path / "packed", tmp_path / "out"
    file.write_bytes(data)
    folder.mkdir()
    unpack(file, name, folder, limits)
    return folder


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (zipped(SOUND), "a.zip"),
        (zipped(SOUND, method=zipfile.ZIP_STORED), "A.ZIP"),
        (zipped({"sae/": b"", **SOUND}), "a.zip"),
        (tarred(SOUND), "a.tar.gz"),
        (tarred(SOUND), "a.tgz"),
        (tarred({f"./{name}": data for name, data in SOUND.items()}), "a.tgz"),
        (tarred(SOUND, packed=False), "a.tar"),
    ],
)
def test_sound_archives_come_out_unchanged(data: bytes, name: str, tmp_path: Path) -> None:
    folder = opened(data, name, tmp_path)
    assert check_folder(folder) == {name: len(content) for name, content in SOUND.items()}
    for inside, content in SOUND.items():
        assert (folder / inside).read_bytes() == content


def test_a_folder_as_tar_makes_it_comes_out_whole(tmp_path: Path) -> None:
    source = tmp_path / "source" / "sae"
    source.mkdir(parents=True)
    (source / "cfg.json").write_bytes(CONFIG)
    (source / "x.safetensors").write_bytes(WEIGHTS)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.add(source.parent, ".")
    folder = opened(out.getvalue(), "x.tgz", tmp_path)
    assert set(check_folder(folder)) == {"sae/cfg.json", "sae/x.safetensors"}
    assert sae_folder_in(folder) == folder / "sae"


def _pax_bomb() -> bytes:
    """A header that says of itself that it is 100 MB long."""
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 100 * 2**20
    return info.tobuf(tarfile.USTAR_FORMAT) + b"\0" * (100 * 2**20)


def _sparse() -> bytes:
    info = tarfile.TarInfo("w.safetensors")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 0
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"00000000000\0"[:12]
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header) + b"\0" * 1024


def _many(count: int) -> dict[str, bytes]:
    return {f"{number}.txt": b"" for number in range(count)}


def _encrypted() -> bytes:
    data = bytearray(zipped({"w.safetensors": WEIGHTS}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def _twice() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate"):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("a.json", b"{}")
            archive.writestr("a.json", b"[]")
    return out.getvalue()


ONE = {"w.safetensors": WEIGHTS}

HOSTILE = [
    *((zipped({name: b"{}"}), "a.zip", "plain relative path") for name in (
        "../a.json", "/etc/a.json", "a/../../b.json", "a//b.json", "./a.json", "..\\a.json",
        "C:a.json", "a\x00.json", "a\n.json", "a/./b.json",
    )),
    *((tarred({name: b"{}"}), "a.tgz", "plain relative path") for name in (
        "../a.json", "/etc/a.json", "a/../../b.json", "a/../b.json",
    )),
    (zipped({"d/" * 9 + "a.json": b"{}"}), "a.zip", "too long or too deep"),
    (zipped({"a" * 300 + ".json": b"{}"}), "a.zip", "too long or too deep"),
    (zipped(ONE, mode=0o120777), "a.zip", "a link or a device"),
    (zipped(ONE, mode=0o020666), "a.zip", "a link or a device"),
    (tarred(ONE, tarfile.SYMTYPE, "/etc/passwd"), "a.tgz", "a link, a device"),
    (tarred(ONE, tarfile.LNKTYPE, "/etc/passwd"), "a.tgz", "a link, a device"),
    (tarred(ONE, tarfile.CHRTYPE), "a.tgz", "a link, a device"),
    (tarred(ONE, tarfile.BLKTYPE), "a.tgz", "a link, a device"),
    (tarred(ONE, tarfile.FIFOTYPE), "a.tgz", "a link, a device"),
    (_sparse(), "a.tar", "sparse"),
    (_pax_bomb(), "a.tar", "too long"),
    (zipped({"a.pt": b""}), "a.zip", "never read. Where you trust them"),
    (zipped({"pytorch_model.bin": b""}), "a.zip", "never read. Where you trust them"),
    (tarred({"ae.PKL": b""}), "a.tgz", "never read. Where you trust them"),
    (zipped({"a.py": b""}), "a.zip", "only .json"),
    (zipped({".json": b""}), "a.zip", "only .json"),
    (zipped({"inner.zip": b""}), "a.zip", "only .json"),
    (_twice(), "a.zip", "occurs twice"),
    (zipped({"A.json": b"{}", "a.json": b"{}"}), "a.zip", "occurs twice"),
    (zipped({"\u00e9.json": b"{}", "e\u0301.json": b"{}"}), "a.zip", "occurs twice"),
    (tarred({"a.json": b"{}", "a.json/b.json": b"{}"}), "a.tgz", "a file and a folder"),
    (zipped(_many(257)), "a.zip", "more than 256"),
    (tarred(_many(257)), "a.tgz", "more than 256"),
    (zipped(_many(60_000), method=zipfile.ZIP_STORED), "a.zip", "more than 256"),
    (_encrypted(), "a.zip", "encrypted"),
    (zipped(ONE, method=zipfile.ZIP_LZMA), "a.zip", "another method"),
    (zipped(ONE, method=zipfile.ZIP_BZIP2), "a.zip", "another method"),
    (zipped({"a.txt": b"\0" * 20_000_000}), "a.zip", "more than 100 times"),
    (tarred({"a.txt": b"\0" * 20_000_000}), "a.tgz", "more than 100 times"),
    (zipped(ONE)[:-30], "a.zip", "damaged"),
    (b"", "a.zip", "damaged"),
    (b"PK\x03\x04", "a.zip", "damaged"),
    (b"", "a.tar", "damaged"),
    (b"not gzip", "a.tgz", "damaged"),
    (tarred(ONE)[:-20], "a.tgz", "damaged"),
    (tarred(ONE, packed=False)[:520], "a.tar", "cut off|damaged"),
]  # fmt: skip


def in_a_word(value: object) -> str:
    """A test's name; archives hold the time, and names must be the same at every collection."""
    return "archive" if isinstance(value, bytes) else str(value)[:24]


@pytest.mark.parametrize(("data", "name", "message"), HOSTILE, ids=in_a_word)
def test_hostile_archives_are_refused(data: bytes, name: str, message: str, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(DataError, match=message):
        opened(data, name, inside)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    assert {path.name for path in inside.iterdir()} == {"packed", "out"}
    assert not list(inside.rglob("passwd"))


def test_total_size_counts_what_comes_out(tmp_path: Path) -> None:
    noise = os.urandom(2**20)
    with pytest.raises(DataError, match="more than 1000000 bytes"):
        opened(zipped({"a.txt": noise}), "a.zip", tmp_path, Limits(total_bytes=1_000_000))


def test_a_central_directory_that_lies_about_sizes(tmp_path: Path) -> None:
    """Declared as ten bytes, a bomb is cut there, and its checksum then gives it away."""
    data = bytearray(zipped({"a.txt": b"\0" * 50_000_000}))
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 10)
    with pytest.raises(DataError, match="damaged"):
        opened(bytes(data), "a.zip", tmp_path)
    assert sum(file.stat().st_size for file in (tmp_path / "out").iterdir()) <= 10


def tensor(shape: object, offsets: object, dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


BAD_HEADERS = [
    (b"", "shorter"),
    (b"1234567", "shorter"),
    (safetensors(length=2**63), "shorter"),
    (struct.pack("<Q", 3_000_000) + b" " * 3_000_000, "more than"),
    (safetensors(b"[]", b""), "no JSON object"),
    (safetensors(b'{"a"', b""), "no usable JSON"),
    (safetensors(b'{"a": 1, "a": 1}', b""), "twice"),
    (safetensors(b'{"a": \xff}', b""), "no usable JSON"),
    (safetensors(b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", b""), "deep"),
    (safetensors(b'{"a": ' + b"9" * 5000 + b"}", b""), "no usable JSON"),
    (safetensors({"a": 1}), "described wrongly"),
    (safetensors({"a": {**tensor([2, 3], [0, 24]), "more": 1}}), "described wrongly"),
    (safetensors({"a": tensor([2, 3], [0, 24], "F31")}), "unknown dtype"),
    (safetensors({"a": tensor([2, 3], [0, 24], ["F32"])}), "unknown dtype"),
    (safetensors({"a": tensor([-2, -3], [0, 24])}), "shape"),
    (safetensors({"a": tensor([2.0, 3], [0, 24])}), "shape"),
    (safetensors({"a": tensor([True, 6], [0, 24])}), "shape"),
    (safetensors({"a": tensor([1] * 9, [0, 4])}), "shape"),
    (safetensors({"a": tensor([2**62] * 8, [0, 24])}), "do not agree"),
    (safetensors({"a": tensor([2, 3], [24, 0])}), "offsets"),
    (safetensors({"a": tensor([2, 3], [0])}), "offsets"),
    (safetensors({"a": tensor([2, 3], [0, 20])}), "do not agree"),
    (safetensors({"a": tensor([2, 3], [4, 28])}, b"\0" * 28), "gap"),
    (safetensors({"a": tensor([3], [0, 12]), "b": tensor([3], [8, 20])}, b"\0" * 20), "overlaps"),
    (safetensors({"a": tensor([2, 3], [0, 24])}, b"\0" * 23), "do not agree"),
    (safetensors({"a": tensor([2, 3], [0, 24])}, b"\0" * 25), "do not agree"),
    (safetensors({"__metadata__": {"a": 1}}, b""), "metadata"),
    (safetensors({f"{n}": tensor([0], [0, 0]) for n in range(1001)}, b""), "more than 1000"),
]


@pytest.mark.parametrize(("data", "message"), BAD_HEADERS)
def test_bad_safetensors_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(DataError, match=message):
        check_safetensors(tmp_path / "a.safetensors")


def test_what_safetensors_writes_is_sound(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    file = tmp_path / "a.safetensors"
    tensors = {"W": np.ones((4, 5), np.float16), "b": np.zeros(3), "empty": np.zeros((0, 3))}
    save_file(tensors, file, metadata={"format": "pt"})
    assert check_safetensors(file) == {"W": [4, 5], "b": [3], "empty": [0, 3]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "no usable JSON"),
        (b"", "no usable JSON"),
        (b"\xff", "no usable JSON"),
        (b"[" * 33 + b"]" * 33, "nested"),
        (b"[" * 1_000_000, "nested"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'"' + b'\\"' * 2_000_000 + b"\\", "no usable JSON"),  # linear, not quadratic
        (b" " * (4 * 2**20 + 1), "more than"),
    ],
    ids=lambda value: str(value)[:20],
)
@pytest.mark.timeout(20)
def test_bad_json_is_refused(text: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(DataError, match=message):
        check_json(tmp_path / "a.json")


def test_brackets_in_strings_are_not_depth(tmp_path: Path) -> None:
    value = {"a": '["\\' + "[" * 100, "b": [{"c": "{" * 100}]}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert check_json(tmp_path / "a.json") == value


def test_a_folder_without_weights_is_no_sae(tmp_path: Path) -> None:
    (tmp_path / "cfg.json").write_bytes(CONFIG)
    with pytest.raises(DataError, match=r"no \.safetensors or \.npz file"):
        check_folder(tmp_path)


def test_a_link_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="a link"):
        check_folder(tmp_path)


@pytest.mark.parametrize("inside", ["..", "../x", "/etc", "sae/../..", "nothing"])
def test_a_subfolder_does_not_leave_the_upload(inside: str, tmp_path: Path) -> None:
    (tmp_path / "upload" / "sae").mkdir(parents=True)
    with pytest.raises(DataError):
        sae_folder_in(tmp_path / "upload", inside)
    assert sae_folder_in(tmp_path / "upload", "sae") == tmp_path / "upload" / "sae"


def test_names_of_single_files() -> None:
    check_names(["cfg.json", "sae_weights.safetensors"], Limits())
    with pytest.raises(DataError, match="occurs twice"):
        check_names(["cfg.json", "CFG.json"], Limits())
