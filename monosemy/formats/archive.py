"""Foreign SAE folders, packed or file by file, taken apart without trust.

Archives are zip, tar, tar.gz and tgz.  Names that leave the folder, links, devices, names that
occur twice and pickles are refused; sizes are those of the bytes that come out, not those that are
declared.  Imports neither torch nor safetensors, so that the API can use it.
"""

from __future__ import annotations

import gzip
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from monosemy.errors import DataError
from monosemy.formats.header import MAX_JSON_BYTES, check_json, check_safetensors
from monosemy.formats.npz import check_npz

ALLOWED = (".json", ".yaml", ".safetensors", ".npz", ".md", ".txt")
WEIGHTS = (".safetensors", ".npz")
"""Arrays of an ``.npz`` are read without pickle, and one that holds a pickle is refused."""
LEFT_OUT = (".jsonl", ".html")
"""What our own folders have besides: readings, a page of curves.  It is taken and not kept."""
PICKLED = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".npy")
ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")

_CHUNK = 2**20
_LONGEST_READ = 4 * 2**20
"""Bytes that the readers of archives may take into memory at once: more than a list of members
needs."""
_SMALL = 2**20
"""Archives that unpack to no more than this may have any compression ratio."""
_REFUSED = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]')
_MAX_DEPTH = 8


@dataclass(frozen=True)
class Limits:
    """How much may come out of an upload."""

    members: int = 256
    """Files and folders."""
    total_bytes: int = 8 * 2**30
    """All files together, unpacked."""
    ratio: float = 100.0
    """Unpacked over packed size; weights do not shrink by more than a few times."""


class _Tally:
    """What has come out so far; ``DataError`` once it is too much."""

    def __init__(self, limits: Limits, packed: int) -> None:
        self._limits = limits
        self._allowed = max(packed * limits.ratio, _SMALL)
        self._bytes = 0

    def add(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._limits.total_bytes:
            raise DataError(f"It unpacks to more than {self._limits.total_bytes} bytes.")
        if self._bytes > self._allowed:
            raise DataError(f"It unpacks to more than {self._limits.ratio:g} times its size.")


def is_archive(name: str) -> bool:
    """Whether a file of this name is taken to be packed."""
    return name.lower().endswith(ARCHIVES)


def unpack(file: Path, name: str, folder: Path, limits: Limits) -> None:
    """Unpacks ``file``, an archive that was called ``name``, into the empty folder ``folder``.

    Raises ``DataError`` for anything that is not to be unpacked; what is unpacked so far stays.
    """
    try:
        if name.lower().endswith(".zip"):
            _unpack_zip(file, folder, limits)
        elif name.lower().endswith(".tar"):
            _unpack_tar(file, folder, limits, _Tally(limits, file.stat().st_size))
        else:
            _unpack_gz(file, folder, limits)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise DataError(f"The archive is damaged: {str(error)[:200]}.") from None
    except (ValueError, OverflowError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"The archive cannot be read: {str(error)[:200]}.") from None


def _unpack_zip(file: Path, folder: Path, limits: Limits) -> None:
    tally = _Tally(limits, file.stat().st_size)
    with file.open("rb") as raw, zipfile.ZipFile(_ShortReads(raw)) as archive:  # type: ignore[arg-type]
        members = archive.infolist()
        # Before anything is written; orig_filename still has what follows a NUL.
        _check_names([(each.orig_filename, each.is_dir()) for each in members], limits)
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise DataError(f"{_quoted(member.filename)} is a link or a device.")
            if member.flag_bits & 1:
                raise DataError(f"{_quoted(member.filename)} is encrypted.")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DataError(f"{_quoted(member.filename)} is packed by another method.")
            if not member.is_dir():
                with archive.open(member) as packed:
                    _write(packed, folder / member.filename, tally)


def _unpack_gz(file: Path, folder: Path, limits: Limits) -> None:
    """By way of a plain tar on disk: going back in a compressed file starts it over."""
    plain = folder.with_name(f"{folder.name}.tar")
    tally = _Tally(limits, file.stat().st_size)
    try:
        with gzip.open(file) as packed:
            _write(packed, plain, tally)
        _unpack_tar(plain, folder, limits, _Tally(limits, plain.stat().st_size))
    except gzip.BadGzipFile as error:
        raise DataError(f"The archive is damaged: {error}.") from None
    finally:
        plain.unlink(missing_ok=True)


def _unpack_tar(file: Path, folder: Path, limits: Limits, tally: _Tally) -> None:
    names: list[tuple[str, bool]] = []
    with file.open("rb") as raw, tarfile.open(fileobj=_ShortReads(raw), mode="r:") as archive:  # type: ignore[call-overload]
        for member in archive:
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise DataError(f"{_quoted(member.name)} is a link, a device or a sparse file.")
            member.name = member.name.removeprefix("./")
            if member.isdir() and member.name in (".", "") and not names:
                continue
            names.append((member.name, member.isdir()))
            _check_names(names, limits)
            if member.isreg():
                source = archive.extractfile(member)
                assert source is not None
                _write(source, folder / member.name, tally, member.size)


def _write(source: Any, target: Path, tally: _Tally, size: int | None = None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with target.open("xb") as out:
        while chunk := source.read(_CHUNK):
            tally.add(len(chunk))
            written += len(chunk)
            out.write(chunk)
    if size is not None and written != size:
        raise DataError(f"The archive is damaged: {_quoted(target.name)} is cut off.")


class _ShortReads:
    """A file that refuses to be read in pieces which a sound archive never asks for."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            data = self._stream.read(_LONGEST_READ + 1)
            if len(data) > _LONGEST_READ:
                raise DataError("The archive's list of members is too long.")
            return data
        if size > _LONGEST_READ:
            raise DataError("The archive's list of members is too long.")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def seekable(self) -> bool:
        return True


def check_name(name: str) -> None:
    """``DataError`` unless ``name`` is a plain relative path of a file that may be uploaded."""
    _check_path(name)
    ending = Path(name).suffix.lower()
    if ending in PICKLED:
        raise DataError(
            f"{_quoted(name)}: pickled weights can run code and are never read.",
            "Where you trust them, write them as .safetensors (safetensors.torch.save_file) and"
            " leave the pickle out.",
        )
    if ending not in (*ALLOWED, *LEFT_OUT) or Path(name).name.lower() in (*ALLOWED, *LEFT_OUT):
        raise DataError(f"{_quoted(name)}: only {', '.join(ALLOWED)} files are taken.")


def _check_path(name: str) -> None:
    parts = name.split("/")
    if _REFUSED.search(name) or any(part in ("", ".", "..") for part in parts):
        raise DataError(f"{_quoted(name)} is no plain relative path.")
    try:
        longest = max(len(part.encode("utf-8")) for part in parts)
    except UnicodeEncodeError:
        raise DataError(f"{_quoted(name)} is no text.") from None
    if longest > 200 or len(parts) > _MAX_DEPTH:
        raise DataError(f"{_quoted(name)} is too long or too deep.")


def _check_names(members: Iterable[tuple[str, bool]], limits: Limits) -> None:
    """(name, whether it is a folder) of all members: each fit, none twice, not too many."""
    members = list(members)
    if len(members) > limits.members:
        raise DataError(f"It holds more than {limits.members} files and folders.")
    kinds: dict[str, bool] = {}
    for name, is_folder in members:
        if is_folder:
            name = name.removesuffix("/")
            _check_path(name)
        else:
            check_name(name)
        # On some disks, names that differ in case or in how accents are written are the same.
        same = unicodedata.normalize("NFC", name).casefold()
        if same in kinds and not (is_folder and kinds[same]):
            raise DataError(f"{_quoted(name)} occurs twice.")
        kinds[same] = is_folder
    for name in kinds:
        for parent in Path(name).parents:
            if kinds.get(str(parent)) is False:
                raise DataError(f"{_quoted(str(parent))} is a file and a folder.")


def check_names(names: Iterable[str], limits: Limits) -> None:
    """``DataError`` unless files of these names may lie beside each other in an upload."""
    _check_names([(name, False) for name in names], limits)


def leave_out(folder: Path) -> None:
    """Removes from an upload what is not kept of it."""
    for path in _files(folder):
        if path.suffix.lower() in LEFT_OUT:
            path.unlink()


def check_folder(folder: Path) -> dict[str, int]:
    """Bytes of every file under ``folder``, by relative name, once all of them are checked.

    Raises ``DataError`` for a file that is none of JSON, safetensors and text, or is malformed, and
    where there are no weights at all.
    """
    sizes = {}
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        check_name(name)
        check_file(path)
        sizes[name] = path.stat().st_size
    if not any(name.lower().endswith(WEIGHTS) for name in sizes):
        raise DataError(f"It holds no {' or '.join(WEIGHTS)} file, so no SAE.")
    return sizes


def check_file(path: Path) -> None:
    """``DataError`` for a file that is malformed, by its ending."""
    match path.suffix.lower():
        case ".json":
            check_json(path)
        case ".safetensors":
            check_safetensors(path)
        case ".npz":
            check_npz(path)
        case ".yaml":
            if path.stat().st_size > MAX_JSON_BYTES:
                raise DataError(f"{path.name} has more than {MAX_JSON_BYTES} bytes.")


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise DataError(f"{path.name} is a link or a device.")
        if path.is_file():
            yield path


def sae_folder_in(folder: Path, inside: str = "") -> Path:
    """The folder of the SAE in an upload: ``inside`` it, else the only one that holds files.

    Raises ``DataError`` for one that is not there or leaves ``folder``.
    """
    if inside:
        _check_path(inside)
        chosen = folder / inside
        if not chosen.is_dir():
            raise DataError(f"The upload has no folder {_quoted(inside)}.")
        return chosen
    while True:
        entries = list(folder.iterdir())
        if len(entries) != 1 or not entries[0].is_dir():
            return folder
        folder = entries[0]


def _quoted(name: str) -> str:
    return repr(name[:200])
