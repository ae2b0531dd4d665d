"""Multipart bodies straight to disk: never whole in memory, counted as they come."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from monosemy.errors import DataError, MonosemyError
from service.kit.errors import UnsupportedContent
from service.uploads.store import Received, check_received_name

_PIECE = 2**20
"""Bytes gathered before they are written."""
_LONGEST_BOUNDARY = 200


class Receiver:
    """Writes the files of a ``multipart/form-data`` body into ``folder``, under numbers.

    Every method that is fed raises ``DataError`` for a malformed body, for a file that may not be
    sent and for more than ``most`` files.
    """

    def __init__(self, content_type: str, folder: Path, most: int) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not 0 < len(boundary) <= _LONGEST_BOUNDARY:
            raise UnsupportedContent("Send the files as multipart/form-data.")
        self.files: list[Received] = []
        self._folder, self._most = folder, most
        self._name, self._value = bytearray(), bytearray()
        self._disposition = ""
        self._out: BinaryIO | None = None
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._open,
                "on_part_data": self._data,
                "on_part_end": self._close,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise DataError(f"The body is no sound multipart/form-data: {error}.") from None

    def finish(self) -> list[Received]:
        if not self._ended:
            raise DataError("The body is no sound multipart/form-data: it ends too early.")
        return self.files

    def close(self) -> None:
        """Of a body that broke off."""
        if self._out is not None:
            self._out.close()

    def _begin(self) -> None:
        self._disposition = ""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if bytes(self._name).lower() == b"content-disposition":
            self._disposition = self._value.decode("latin-1")
        self._name.clear()
        self._value.clear()

    def _open(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"filename" not in options:
            raise DataError("The body holds a field that is no file.")
        try:
            name = options[b"filename"].decode("utf-8")
        except UnicodeDecodeError:
            raise DataError("The name of a file is not UTF-8.") from None
        check_received_name(name)
        if len(self.files) >= self._most:
            raise DataError(f"The body holds more than {self._most} files.")
        path = self._folder / str(len(self.files))
        self.files.append(Received(name, path))
        self._out = path.open("xb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        assert self._out is not None
        self._out.write(data[start:end])

    def _close(self) -> None:
        assert self._out is not None
        self._out.close()
        self._out = None

    def _end(self) -> None:
        self._ended = True


async def receive(request: Request, folder: Path, most: int) -> list[Received]:
    """The files of the request's body, in ``folder``.

    Raises ``DataError`` as ``Receiver`` does, ``UnsupportedContent`` for another sort of
    body, ``MonosemyError`` for one that breaks off.
    """
    receiver = Receiver(request.headers.get("content-type", ""), folder, most)
    gathered = bytearray()
    try:
        async for chunk in request.stream():
            gathered += chunk
            if len(gathered) >= _PIECE:
                await run_in_threadpool(receiver.feed, bytes(gathered))
                gathered.clear()
        await run_in_threadpool(receiver.feed, bytes(gathered))
    except ClientDisconnect:
        raise MonosemyError("The body broke off.") from None
    finally:
        receiver.close()
    return receiver.finish()
