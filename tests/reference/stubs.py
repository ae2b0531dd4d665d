"""A judge and an embedder whose answers depend on the question alone."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.stub_server import Answer, Request, good

DIMENSIONS = 384
_WORDS = ("harbour", "lantern", "botanist", "winter", "engine")
_WORDS += ("whale", "storm", "library", "valley", "clock")


def judge(request: Request) -> Answer:
    """Fills the schema that comes with the request, each property by a hash of the messages."""
    schema = request["response_format"]["json_schema"]["schema"]
    asked = json.dumps(request["messages"], sort_keys=True)
    return good(
        **{
            name: _value(part, zlib.crc32(f"{name}\n{asked}".encode()))
            for name, part in schema["properties"].items()
        }
    )


def _value(part: dict[str, Any], number: int) -> Any:
    if "enum" in part:
        return part["enum"][number % len(part["enum"])]
    if part["type"] == "boolean":
        return number % 3 > 0
    if part["type"] in ("integer", "number"):
        least, most = part.get("minimum", 0), part.get("maximum", 10)
        return least + number % int(most - least + 1)
    words = [_WORDS[number // 10**place % 10] for place in range(6)]
    return " ".join(words)[: part.get("maxLength", 200)]


def embedded(text: str, width: int = DIMENSIONS) -> list[float]:
    """A unit vector of ``width`` numbers: hashed words, so that like texts are near."""
    vector = [0.0] * width
    for word in text.lower().split():
        vector[zlib.crc32(word.encode()) % width] += 1.0
    length = sum(value * value for value in vector) ** 0.5 or 1.0
    return [value / length for value in vector]


class _Embedder(BaseHTTPRequestHandler):
    width = DIMENSIONS

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        data = json.dumps(
            {"embeddings": [embedded(text, self.width) for text in body["texts"]]}
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def embedder(width: int = DIMENSIONS) -> Iterator[str]:
    """Address of an inference server that embeds and does nothing else."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Embedder", (_Embedder,), {"width": width}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
