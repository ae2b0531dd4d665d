"""Which features fire on a prompt: what the features of its graph are held against.  No torch."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from monosemy.errors import DataError
from monosemy.graphs.graph import Floats, Graph, Ints, NodeKind

_COUNT = struct.Struct("<Q")
_ROW_BYTES = 4 * 4
_MOST_BYTES = 2**30


@dataclass(frozen=True)
class Firing:
    """All active features of a prompt, whether a pruned graph has them or not; ``[F]`` each."""

    coder: Ints
    latent: Ints
    position: Ints
    activation: Floats

    @classmethod
    def of(cls, whole: Graph) -> Firing:
        """Of a graph that was not pruned: what is not traced has its node all the same."""
        features = whole.nodes.at(whole.nodes.kind == NodeKind.feature)
        return cls(features.coder, features.number, features.position, features.value)

    def to_bytes(self) -> bytes:
        """int32 and float32, deflated column by column; the same features are the same bytes."""
        columns = (self.coder, self.latent, self.position)
        data = b"".join(np.diff(each, prepend=0).astype("<i4").tobytes() for each in columns)
        data += self.activation.astype("<f4").tobytes()
        return _COUNT.pack(len(self.coder)) + zlib.compress(data, 6)

    @classmethod
    def of_bytes(cls, data: bytes) -> Firing:
        """``DataError`` for what ``to_bytes`` did not make."""
        try:
            (count,) = _COUNT.unpack_from(data)
            unpacking = zlib.decompressobj()
            unpacked = unpacking.decompress(data[_COUNT.size :], _MOST_BYTES)
        except (struct.error, zlib.error) as error:
            raise DataError(f"What fires on a prompt cannot be read: {error}.") from None
        if not unpacking.eof or len(unpacked) != count * _ROW_BYTES:
            raise DataError(
                f"What fires on a prompt cannot be read: {len(unpacked)} bytes of {count} features."
            )
        differences = np.frombuffer(unpacked[: 12 * count], "<i4").astype(np.int64)
        columns = differences.reshape(3, count).cumsum(axis=1)
        activation = np.frombuffer(unpacked[12 * count :], "<f4").astype(np.float64)
        return cls(columns[0], columns[1], columns[2], activation)
