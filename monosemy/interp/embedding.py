"""Asking a sentence embedder, wherever it runs: checked vectors of unit length.  numpy only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from monosemy.errors import DataError

if TYPE_CHECKING:
    from monosemy.interp.tools import Embed


class ThreadedEmbed:
    """An ``Embed`` out of a blocking function, such as ``Embedder.embed`` or an HTTP client's.

    At most ``batch`` texts go into one call, and one call is made at a time: a server that embeds
    one request after another would let those that wait run into their time limit.
    """

    def __init__(
        self, embed: Callable[[Sequence[str]], Any], name: str | None = None, batch: int = 64
    ) -> None:
        self.name = name
        """Which model embeds, for provenance."""
        self._embed, self._batch = embed, batch
        self._lock = threading.Lock()

    async def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32 ``[len(texts), width]``; raises what the blocking function raises."""
        parts = [
            await asyncio.to_thread(self._one, texts[first : first + self._batch])
            for first in range(0, len(texts), self._batch)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

    def _one(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        with self._lock:
            return np.asarray(self._embed(texts), np.float32)


async def unit_vectors(
    embed: Embed, texts: Sequence[str], width: int | None = None
) -> npt.NDArray[np.float32]:
    """float32 ``[len(texts), width]``, rows of length 1, so that products are cosines.

    Raises ``DataError`` for anything but one finite, non-zero vector (of ``width``) per text.
    """
    vectors_ND = np.asarray(await embed(texts), np.float32)
    if (
        vectors_ND.ndim != 2
        or len(vectors_ND) != len(texts)
        or width not in (None, vectors_ND.shape[1])
    ):
        raise DataError(f"The embedder gave {vectors_ND.shape} numbers for {len(texts)} texts.")
    lengths = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise DataError("The embedder gave a vector that is zero or not finite.")
    return vectors_ND / lengths


def embedder_name(embed: Embed) -> str | None:
    """The name that an ``Embed`` bears, where it has one."""
    name = getattr(embed, "name", None)
    return name if isinstance(name, str) else None
