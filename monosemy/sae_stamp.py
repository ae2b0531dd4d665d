"""What makes an SAE folder this SAE and no other: digests of its tensors and settings.

Needs no torch: workers that only read an index of an SAE compare its stamp as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from monosemy.changes import file_stamps, listed
from monosemy.errors import DataError
from monosemy.workspace import fingerprint

PROVENANCE = "provenance.json"
_CONFIGS = ("cfg.json", "activation_scaler.json")
_TENSORS = ("sae_weights.safetensors", "state.safetensors")
_BASELINE = "baseline"
_BLOCK = 1 << 22
_LONGEST_HEADER = 100_000_000
_ADVICE = (
    "Put back what was there; or import the folder as an SAE of its own, which is evaluated, "
    "indexed and explained by itself."
)


@dataclass(frozen=True)
class SaeStamp:
    """Which SAE: equal digests compute the same.  ``parts`` has one for each tensor and file."""

    digest: str
    """16 hex digits."""
    parts: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


_taken: dict[Hashable, SaeStamp] = {}
_lock = threading.Lock()


def sae_stamp(folder: Path) -> SaeStamp:
    """Reads every tensor and setting, the frozen-decoder baseline's too; once, as long as
    the files do not change.  ``DataError`` for files that are missing or damaged."""
    files = _files_of(folder) + _files_of(folder / _BASELINE)
    key = file_stamps(files)
    with _lock:
        if key in _taken:
            return _taken[key]
    parts = dict(sorted([*_parts(folder, ""), *_parts(folder / _BASELINE, "baseline ")]))
    if not parts:
        raise DataError(f"There is no SAE folder {folder}.", "Was it moved or deleted?")
    stamp = SaeStamp(fingerprint(parts), parts)
    if key == file_stamps(files):
        with _lock:
            _taken[key] = stamp
    return stamp


def file_marks(folder: Path) -> str:
    """16 hex digits, equal as long as nobody writes to the files of the SAE; reads none of them."""
    files = _files_of(folder) + _files_of(folder / _BASELINE)
    return fingerprint([list(each) for each in file_stamps(files)])


def is_still(folder: Path, digest: str, marks: str) -> bool:
    """Whether the SAE in ``folder`` has this digest.  Its files are read only if they are not as
    they were when ``marks`` was taken; where the folder is gone there is nothing to compare."""
    if not (folder / _CONFIGS[0]).is_file() or file_marks(folder) == marks:
        return True
    try:
        return sae_stamp(folder).digest == digest
    except DataError:  # damaged
        return False


def record_stamp(folder: Path, changed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Writes the stamp, and what else has ``changed``, into the folder's provenance; returns the
    stamp as it is stored there."""
    stamp = sae_stamp(folder).as_dict()
    file = folder / PROVENANCE
    provenance = {**_json(file), **(changed or {}), "weights": stamp}
    unfinished = folder / f".{PROVENANCE}-{os.getpid()}"
    try:
        unfinished.write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
        unfinished.replace(file)
    except OSError as error:
        raise DataError(f"Cannot write {file}: {error.strerror}.") from None
    return stamp


def weight_changes(folder: Path, recorded: Mapping[str, Any]) -> list[str]:
    """What of the SAE in ``folder`` is not as in ``recorded``, an ``SaeStamp`` kept earlier."""
    now = sae_stamp(folder)
    before = recorded.get("parts")
    if recorded.get("digest") == now.digest:
        return []
    if not isinstance(before, Mapping):
        return ["weights"]
    names = [n for n in {**before, **now.parts} if before.get(n) != now.parts.get(n)]
    return names or ["weights"]


def check_index(folder: Path, index: Path, recorded: Mapping[str, Any] | None, name: str) -> None:
    """Raises ``DataError`` unless the SAE in ``folder`` has the ``recorded`` stamp, if there is
    one, and ``index`` was made of it.

    An index from before there were stamps counts as made of these weights where nobody has written
    to them since, and gets the stamp then.  Where the folder is gone there is nothing to compare.
    """
    if not (folder / _CONFIGS[0]).is_file():
        return
    if recorded:
        changes = weight_changes(folder, recorded)
        if changes:
            raise DataError(
                f"The files of the SAE '{name}' have changed: {listed(changes)}.", _ADVICE
            )
    now = sae_stamp(folder).digest
    meta = _json(index / "meta.json")
    made_of = meta.get("sae_digest")
    if made_of is None and not recorded and _newer(folder, index / "meta.json"):
        raise DataError(
            f"The weights of the SAE '{name}' were written to after it was indexed.",
            "Index it again.",
        )
    if made_of is None:
        _write_meta(index, {**meta, "sae_digest": now})
    elif made_of != now:
        raise DataError(
            f"The index of the SAE '{name}' was made of other weights than its folder holds.",
            "Index it again.",
        )


def _newer(folder: Path, than: Path) -> bool:
    try:
        limit = than.stat().st_mtime_ns
        return any((folder / name).stat().st_mtime_ns > limit for name in _TENSORS[:1])
    except OSError:
        return False


def _write_meta(index: Path, meta: Mapping[str, Any]) -> None:
    unfinished = index / f".meta-{os.getpid()}.json"
    try:
        unfinished.write_text(json.dumps(meta, indent=1), encoding="utf-8")
        unfinished.replace(index / "meta.json")
    except OSError:  # it is checked again the next time
        unfinished.unlink(missing_ok=True)


def _files_of(folder: Path) -> list[Path]:
    return [folder / name for name in (*_CONFIGS, *_TENSORS, PROVENANCE)]


def _parts(folder: Path, prefix: str) -> Iterator[tuple[str, str]]:
    if not (folder / _CONFIGS[0]).is_file():
        return
    for name in _CONFIGS:
        if (folder / name).is_file():
            yield prefix + name, fingerprint(_settings(_json(folder / name)))
    if (folder / PROVENANCE).is_file():
        provenance = _json(folder / PROVENANCE)
        metrics = provenance.get("metrics")
        limit = metrics.get("max_norm") if isinstance(metrics, Mapping) else None
        yield f"{prefix}architecture's options", fingerprint([provenance.get("sae"), limit])
        if "plugin" in provenance:
            yield f"{prefix}architecture's plugin", fingerprint(provenance["plugin"])
    for name in _TENSORS:
        if (folder / name).is_file():
            kind = "" if name == _TENSORS[0] else "state "
            for tensor, digest in _tensors(folder / name):
                yield f"{prefix}{kind}{tensor}", digest


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """But for the version that wrote it."""
    metadata = config.get("metadata")
    if not isinstance(metadata, Mapping):
        return dict(config)
    return {**config, "metadata": {k: v for k, v in metadata.items() if k != "sae_lens_version"}}


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read: {error}.") from None
    if not isinstance(content, dict):
        raise DataError(f"{file} does not hold a JSON object.")
    return content


def _tensors(file: Path) -> Iterator[tuple[str, str]]:
    """(name, digest over dtype, shape and bytes) of each tensor, wherever in the file it lies."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, _LONGEST_HEADER)))
            for name, entry in header.items():
                if name == "__metadata__":
                    continue
                begin, end = entry["data_offsets"]
                form = f"{entry['dtype']} {entry['shape']}".encode()
                digest = hashlib.blake2b(form, digest_size=8)
                stream.seek(8 + length + begin)
                left = end - begin
                while left > 0:
                    block = stream.read(min(_BLOCK, left))
                    if not block:
                        raise ValueError("it ends too early")
                    digest.update(block)
                    left -= len(block)
                yield name, digest.hexdigest()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise DataError(f"{file} is damaged or no safetensors file: {error}.") from None
