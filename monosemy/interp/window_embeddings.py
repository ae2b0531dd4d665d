"""Embeddings of fixed windows of a text, made once per token store and embedder.

They lie in one memory-mapped file that every feature is searched in.  A build appends batch by
batch and goes on where an earlier one was stopped; the file gets its final name when it is whole.
numpy only.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from monosemy.errors import DataError
from monosemy.interp.embedding import unit_vectors
from monosemy.progress import SILENT, Reporter
from monosemy.workspace import fingerprint

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore
    from monosemy.interp.tools import Embed

WINDOW = 32
"""Tokens in a window, at most."""
BATCH = 128
"""Texts embedded at once."""

_BLOCK = 8192
"""Windows turned into float32 at once."""
_FORMAT = 1
_IDENTIFYING_TEXTS = (
    "The train from London to the north was delayed by snow.",
    "def add(first, second): return first + second",
    "Stir the flour into the butter and let it cool.",
)
"""An embedder is identified by its vectors of these texts, not by its name or address."""
_SAME_EMBEDDER = 0.999
_BROKEN = "\ufffd"

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Where windows lie in the token store, by ascending position; int64 ``[W]`` each."""

    rows: Ints
    starts: Ints
    ends: Ints

    def __len__(self) -> int:
        return len(self.rows)

    def holding(self, positions: Ints) -> Ints:
        """The window that holds each flat position; -1 where none does."""
        window = np.searchsorted(self.starts, positions, side="right") - 1
        inside = (window >= 0) & (positions < self.ends[window]) if len(self) else window >= 0
        return np.where(inside, window, -1)


@dataclass(frozen=True)
class WindowEmbeddings:
    """Windows with their embeddings: ``vectors`` is float16 ``[W, width]`` on disk, unit rows."""

    windows: Windows
    vectors: npt.NDArray[np.float16]

    def similarities(self, queries_QD: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Cosines of unit queries with every window, float32 ``[Q, W]``."""
        result = np.empty((len(queries_QD), len(self.windows)), np.float32)
        for first in range(0, len(self.windows), _BLOCK):
            block_BD = self.vectors[first : first + _BLOCK].astype(np.float32)
            result[:, first : first + len(block_BD)] = queries_QD @ block_BD.T
        return result


def fixed_windows(row_start: Ints, rows: Ints, size: int = WINDOW) -> Windows:
    """Cuts each of ``rows`` (ascending) into windows of at most ``size`` tokens.

    Each row falls into as few windows as can be, whose lengths differ by one at most: all of its
    tokens are in exactly one, and none is a scrap.
    """
    rows = np.asarray(rows, np.int64)
    first, lengths = row_start[rows], row_start[rows + 1] - row_start[rows]
    counts = -(-lengths // size)
    row = np.repeat(rows, counts)
    number = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    first, lengths, counts = (np.repeat(each, counts) for each in (first, lengths, counts))
    return Windows(
        row, first + lengths * number // counts, first + lengths * (number + 1) // counts
    )


async def embed_windows(
    store: TokenStore,
    rows: Ints,
    embed: Embed,
    folder: Path,
    reporter: Reporter = SILENT,
    size: int = WINDOW,
) -> WindowEmbeddings:
    """The embeddings of all windows of ``rows``, opened from ``folder`` or made there.

    Windows of other rows, of another text and by another embedder have files of their own.  Of
    processes that want the same at once, one makes it and the others wait.  Raises ``DataError``
    when the embedder gives no usable vectors.
    """
    rows = np.asarray(rows, np.int64)
    windows = fixed_windows(np.asarray(store.row_start, np.int64), rows, size)
    digest = hashlib.blake2b(rows.tobytes(), digest_size=8).hexdigest()
    name = fingerprint({"format": _FORMAT, "text": store.text_id, "size": size, "rows": digest})
    identity = await unit_vectors(embed, _IDENTIFYING_TEXTS)
    folder.mkdir(parents=True, exist_ok=True)
    async with _alone(folder / f"{name}.lock", reporter):
        base = _base_of(folder, name, identity)
        final = base.with_suffix(".f16")
        if not final.is_file():
            await _build(store, windows, embed, base, identity.shape[1], reporter)
    shape = (len(windows), identity.shape[1])
    if final.stat().st_size != 2 * shape[0] * shape[1]:
        raise DataError(f"{final} is damaged.", "Delete it; it is then rebuilt.")
    if not len(windows):
        return WindowEmbeddings(windows, np.zeros(shape, np.float16))
    vectors = np.memmap(final, np.float16, "r", shape=shape)
    return WindowEmbeddings(windows, vectors.view(np.ndarray))


async def _build(
    store: TokenStore,
    windows: Windows,
    embed: Embed,
    base: Path,
    width: int,
    reporter: Reporter,
) -> None:
    part = base.with_suffix(".part")
    part.touch()
    with part.open("r+b") as file:
        done = min(os.fstat(file.fileno()).st_size // (2 * width), len(windows))
        file.truncate(2 * width * done)  # a killed build may have left half a vector
        file.seek(2 * width * done)
        with reporter.stage("embed windows", len(windows), "windows", done=done) as stage:
            texts = _texts(store, windows, done)
            while batch := [text for _, text in zip(range(BATCH), texts, strict=False)]:
                vectors = await unit_vectors(embed, batch, width)
                file.write(vectors.astype("<f2").tobytes())
                file.flush()
                stage.advance(len(batch))
        os.fsync(file.fileno())
    part.replace(base.with_suffix(".f16"))


def _texts(store: TokenStore, windows: Windows, first: int) -> Iterator[str]:
    """Texts of the windows from number ``first`` on; each row is decoded once and then cut."""
    token_bytes = store.token_bytes()
    row, begin, pieces = -1, 0, [""]
    for i in range(first, len(windows)):
        if windows.rows[i] != row:
            row = int(windows.rows[i])
            begin, end = int(store.row_start[row]), int(store.row_start[row + 1])
            pieces = token_bytes.pieces(np.asarray(store.tokens[begin:end]).tolist())
        cut = slice(int(windows.starts[i]) - begin, int(windows.ends[i]) - begin)
        yield "".join(pieces[cut]).strip(_BROKEN)


def _base_of(folder: Path, name: str, identity: npt.NDArray[np.float32]) -> Path:
    """Where this embedder's vectors lie, or are to lie; noted down if it is a new one."""
    notes = sorted(folder.glob(f"{name}-*.json"))
    for note in notes:
        known = np.array(json.loads(note.read_text(encoding="utf-8"))["probes"], np.float32)
        if known.shape == identity.shape and (known * identity).sum(1).min() > _SAME_EMBEDDER:
            return note.with_suffix("")
    base = folder / f"{name}-{len(notes):04d}"
    temporary = base.with_suffix(".new")
    temporary.write_text(json.dumps({"probes": identity.tolist()}), encoding="utf-8")
    temporary.replace(base.with_suffix(".json"))
    return base


@asynccontextmanager
async def _alone(path: Path, reporter: Reporter) -> AsyncIterator[None]:
    """Holds the lock file, which the system frees if the process dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                reporter.check()
                await asyncio.sleep(0.2)
        yield
    finally:
        os.close(descriptor)
