"""Record batches as a parquet file or an Arrow stream, handed on while they are made."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Literal

from starlette.responses import StreamingResponse

from service.concurrency.places import Lane
from service.concurrency.streams import each_in

if TYPE_CHECKING:
    import pyarrow as pa

Form = Literal["parquet", "arrow"]

MEDIA_TYPES: dict[str, str] = {
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}


class _Outlet(io.RawIOBase):
    """A file that forgets what was taken from it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._place = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def write(self, data: bytes) -> int:  # type: ignore[override]
        piece = bytes(data)
        self._parts.append(piece)
        self._place += len(piece)
        return len(piece)

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def encoded(schema: pa.Schema, batches: Iterable[pa.RecordBatch], form: Form) -> Iterator[bytes]:
    """The bytes of a file; one batch at a time is in memory, as one row group of its own.

    Parquet additionally keeps a few hundred bytes per row group until the end.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    outlet = _Outlet()
    writer: pa.ipc.RecordBatchStreamWriter | pq.ParquetWriter
    if form == "parquet":
        writer = pq.ParquetWriter(outlet, schema, compression="zstd", write_statistics=True)
    else:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        writer = pa.ipc.new_stream(outlet, schema, options=options)
    try:
        for batch in batches:
            writer.write_batch(batch)
            yield outlet.take()
    finally:
        writer.close()
    yield outlet.take()


def begun(schema: pa.Schema, batches: Iterator[pa.RecordBatch], form: Form) -> Iterator[bytes]:
    """The bytes of a file whose first batch is made at once: what fails in it is raised here."""
    first = next(batches, None)
    return encoded(schema, batches if first is None else chain([first], batches), form)


def streamed(name: str, pieces: Iterator[bytes], form: Form, lane: Lane) -> StreamingResponse:
    """The file as an answer; each piece is made in a thread of ``lane``."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.{form}"'}
    return StreamingResponse(each_in(lane, pieces), media_type=MEDIA_TYPES[form], headers=headers)
