"""Activations of a token store on disk: bfloat16, at each token's flat position, crash-safe.

``acts.bf16`` is raw bfloat16 ``[n_tokens, width]``; ``rows.u1`` one byte per row, 1 once the row's
data has reached the disk.  A byte per row, not a bit, lets two processes fill one cache: each
writes only its own rows, and both would write the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.data.store import TokenStore
from monosemy.errors import DataError

FLUSH_BYTES = 64 << 20
"""So much is written between two flushes; a crash loses at most that."""


class ActivationCache:
    """The cache of one site over one store of one host model (``model`` is its fingerprint).

    Anything that does not fit all of them is overwritten.
    """

    def __init__(
        self,
        folder: Path,
        store: TokenStore,
        site: str,
        width: int,
        dtype: str,
        model: str | None = None,
    ) -> None:
        self.store = store
        self.width = width
        self.model = model
        wanted = _description(store, site, width, dtype)
        if model is not None:
            wanted["model"] = model
        folder.mkdir(parents=True, exist_ok=True)
        if read_description(folder) != wanted:
            _create(folder, wanted)
        self._data = (folder / "acts.bf16").open("r+b", buffering=0)
        self._rows = (folder / "rows.u1").open("r+b", buffering=0)
        shape = (store.n_tokens, width)
        self._view = np.memmap(folder / "acts.bf16", dtype="<i2", mode="r", shape=shape)
        self._done = np.frombuffer(self._rows.read(), dtype=np.uint8).astype(bool)
        self._pending: list[npt.NDArray[np.int64]] = []
        self._pending_bytes = 0

    def has(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of these rows can be read (written by this process, or flushed by any)."""
        return self._done[rows]

    def share(self) -> float:
        """Share of the store's tokens that can be read."""
        lengths = np.diff(self.store.row_start)
        return float(lengths[self._done].sum() / max(self.store.n_tokens, 1))

    def write(self, rows: npt.NDArray[np.int64], acts_ND: Tensor) -> None:
        """Keeps the activations of whole rows, concatenated in the order of ``rows``."""
        data = acts_ND.to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy()
        at = 0
        for first, last in _runs(rows):
            begin, end = int(self.store.row_start[first]), int(self.store.row_start[last])
            self._data.seek(begin * self.width * 2)
            _write_all(self._data, data[at : at + end - begin])
            at += end - begin
        self._done[rows] = True
        self._pending.append(np.asarray(rows, dtype=np.int64))
        self._pending_bytes += data.nbytes
        if self._pending_bytes >= FLUSH_BYTES:
            self.flush()

    def read(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """bfloat16 ``[n, width]`` of whole rows that are there; runs of rows are one copy each."""
        spans = [
            (int(self.store.row_start[first]), int(self.store.row_start[last]))
            for first, last in _runs(rows)
        ]
        result = np.empty((sum(end - begin for begin, end in spans), self.width), dtype="<i2")
        at = 0
        for begin, end in spans:
            result[at : at + end - begin] = self._view[begin:end]
            at += end - begin
        return torch.from_numpy(result).view(torch.bfloat16)

    def flush(self) -> None:
        """Brings the data to the disk, and only then the bytes that vouch for it."""
        if not self._pending:
            return
        os.fsync(self._data.fileno())
        for rows in self._pending:
            for first, last in _runs(np.sort(rows)):
                self._rows.seek(int(first))
                _write_all(self._rows, np.ones(int(last - first), dtype=np.uint8))
        os.fsync(self._rows.fileno())
        self._pending.clear()
        self._pending_bytes = 0

    def close(self) -> None:
        """Flushes; the cache cannot be used afterwards."""
        if not self._data.closed:
            self.flush()
            self._data.close()
            self._rows.close()


def read_description(folder: Path) -> dict[str, Any] | None:
    """What the cache in ``folder`` holds; None where there is none (or half a one)."""
    try:
        description = json.loads((folder / "cache.json").read_text(encoding="utf-8"))
        sizes = [(folder / name).stat().st_size for name in ("acts.bf16", "rows.u1")]
    except (OSError, ValueError):
        return None
    if not isinstance(description, dict):
        return None
    wanted = [description["n_tokens"] * description["width"] * 2, description["n_rows"]]
    return description if sizes == wanted else None


def add_model(folder: Path, model: str) -> None:
    """Notes down whose activations the cache holds, in one that was begun before that was done."""
    description = read_description(folder)
    if description is not None and "model" not in description:
        _describe(folder, {**description, "model": model})


def _describe(folder: Path, description: dict[str, Any]) -> None:
    temporary = folder / f".cache-{os.getpid()}.json"
    temporary.write_text(json.dumps(description), encoding="utf-8")
    temporary.replace(folder / "cache.json")


def _description(store: TokenStore, site: str, width: int, dtype: str) -> dict[str, Any]:
    return {
        "text_id": store.text_id,
        "site": site,
        "width": width,
        "host_dtype": dtype,
        "n_tokens": store.n_tokens,
        "n_rows": store.n_rows,
    }


def _create(folder: Path, description: dict[str, Any]) -> None:
    """An empty cache; the description comes last, so half a cache is never taken for one."""
    (folder / "cache.json").unlink(missing_ok=True)
    size = description["n_tokens"] * description["width"] * 2
    for name, length in (("acts.bf16", size), ("rows.u1", description["n_rows"])):
        # A new file, not the old one emptied: another process may still read that.
        (folder / name).unlink(missing_ok=True)
        with (folder / name).open("wb") as stream:
            stream.truncate(length)
    _describe(folder, description)


def _runs(rows: Sequence[int] | npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Runs ``[first, last)`` of consecutive rows, in the order given."""
    rows = np.asarray(rows, dtype=np.int64)
    if not len(rows):
        return []
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    begins = rows[np.concatenate([[0], breaks])]
    ends = rows[np.concatenate([breaks - 1, [len(rows) - 1]])] + 1
    return [(int(begin), int(end)) for begin, end in zip(begins, ends, strict=True)]


def _write_all(stream: Any, data: npt.NDArray[Any]) -> None:
    try:
        rest = memoryview(np.ascontiguousarray(data).view(np.uint8).reshape(-1))  # type: ignore[arg-type]
        while rest:
            rest = rest[stream.write(rest) :]
    except OSError as error:
        raise DataError(
            f"Cannot write the activation cache: {error.strerror}.",
            "Free disk space, or set training.cache_activations=false.",
        ) from None
