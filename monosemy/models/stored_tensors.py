"""The tensors in a model's files, for values that were rounded when the model was loaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

_NAMES = ("model.safetensors", "model.safetensors.index.json")
_LONGEST_HEADER = 100_000_000
_ROUNDED = (torch.bfloat16, torch.float16)
_WIDER = ("F64", "F32", "F16", "BF16")


class StoredTensors:
    """Reads only what is asked for; empty for files in another format than safetensors."""

    def __init__(self, folder: Path | None = None, prefix: str = "") -> None:
        """``prefix`` begins names in memory that may lack it in files (``transformer``)."""
        self._prefix = f"{prefix}." if prefix else ""
        self._place: dict[str, tuple[Path, str]] = {}
        for file in _files(folder) if folder is not None else ():
            self._place |= {name: (file, dtype) for name, dtype in _header(file)}

    def exact(self, name: str, value: Tensor) -> Tensor:
        """The values in the file, if ``value`` is what rounding them to its dtype gives; else
        ``value`` itself."""
        if value.dtype not in _ROUNDED:
            return value
        for there in (name, name.removeprefix(self._prefix), self._prefix + name):
            file, dtype = self._place.get(there, (None, ""))
            if file is None or dtype not in _WIDER or dtype == _CODE[value.dtype]:
                continue
            with suppress(OSError, SafetensorError), safe_open(file, "pt") as opened:
                stored: Tensor = opened.get_tensor(there)
                if stored.shape == value.shape and torch.equal(
                    stored.to(value.dtype), value.detach().cpu()
                ):
                    return stored
        return value


_CODE = {torch.bfloat16: "BF16", torch.float16: "F16"}


def _files(folder: Path) -> list[Path]:
    """Those that transformers reads: the one file, or those of the index."""
    if (folder / _NAMES[0]).is_file():
        return [folder / _NAMES[0]]
    try:
        shards = json.loads((folder / _NAMES[1]).read_text(encoding="utf-8"))["weight_map"]
        return [folder / name for name in sorted(set(shards.values()))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _header(file: Path) -> Iterator[tuple[str, str]]:
    """(name, dtype) of each tensor."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header: Any = json.loads(stream.read(min(length, _LONGEST_HEADER)))
        for name, entry in header.items():
            if name != "__metadata__":
                yield name, str(entry["dtype"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return
