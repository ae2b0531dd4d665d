"""The stub endpoint with the Batch API: files, batches that take a while, and lines that fail."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.stub_server import Answer, Request, StubServer, _completion, _handler

Fault = Callable[[Request, int], str | int | None]
"""A line's request, and how many came before it, to ``"expired"``, ``"missing"``, an HTTP status or
None."""


class BatchStub(StubServer):
    """Live calls are as in ``StubServer``; those of batches are answered by ``respond`` too, once
    ``delay`` seconds have passed, in any order, and stand in ``lines``."""

    def __init__(
        self,
        respond: Callable[[Request], Answer] | None = None,
        delay: float = 0.1,
        fault: Fault = lambda request, before: None,
        offers: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(respond=respond, **options)
        self.delay, self.fault, self.offers = delay, fault, offers
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.lines: list[dict[str, Any]] = []
        self.page = 100
        """Most batches of one page of the list."""
        self.withheld = 0
        """So many downloads fail with 503 first."""
        self.slow_to_cancel = 0.0
        """Seconds that a request to cancel a batch takes."""
        self.mutex = threading.RLock()

    def __enter__(self) -> BatchStub:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _batch_handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def keep(self, data: bytes) -> str:
        with self.mutex:
            name = f"file-{len(self.files)}"
            self.files[name] = data
        return name

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        with self.mutex:
            batch = {
                "id": f"batch_{len(self.batches)}",
                "object": "batch",
                "endpoint": body["endpoint"],
                "input_file_id": body["input_file_id"],
                "completion_window": body["completion_window"],
                "status": "in_progress",
                "created_at": int(time.time()),
                "metadata": body.get("metadata"),
                "due": time.monotonic() + self.delay,
            }
            self.batches[batch["id"]] = batch
            for line in self.files[body["input_file_id"]].splitlines():
                self.lines.append({**json.loads(line), "batch": batch["id"]})
        return self.shown(batch)

    def listed(self, asked: dict[str, list[str]]) -> dict[str, Any]:
        """A page of all batches, the newest first."""
        shown = [self.shown(batch) for batch in self.batches.values()][::-1]
        after = asked.get("after", [None])[0]
        ids = [batch["id"] for batch in shown]
        rest = shown[ids.index(after) + 1 :] if after else shown
        size = min(self.page, int(asked.get("limit", ["20"])[0]))
        return {"object": "list", "data": rest[:size], "has_more": len(rest) > size}

    def shown(self, batch: dict[str, Any]) -> dict[str, Any]:
        with self.mutex:
            if batch["status"] == "in_progress" and time.monotonic() >= batch["due"]:
                self.complete(batch)
            return {name: value for name, value in batch.items() if name != "due"}

    def complete(self, batch: dict[str, Any]) -> None:
        output, errors = [], []
        lines = [line for line in self.lines if line["batch"] == batch["id"]]
        for line in lines:
            fault = self.fault(line["body"], self.lines.index(line))
            answer: dict[str, Any] = {"id": "r", "custom_id": line["custom_id"], "error": None}
            if fault == "missing":
                continue
            if fault == "expired":
                line["status"] = None
                errors.append({**answer, "response": None, "error": {"code": "batch_expired"}})
            elif isinstance(fault, int):
                line["status"] = fault
                body = {"error": {"message": "not now"}}
                errors.append({**answer, "response": {"status_code": fault, "body": body}})
            else:
                line["status"] = 200
                completion = _completion(self.respond(line["body"]))
                output.append({**answer, "response": {"status_code": 200, "body": completion}})
        random.Random(0).shuffle(output)
        for name, rows in (("output_file_id", output), ("error_file_id", errors)):
            text = "\n".join(json.dumps(row) for row in rows)
            batch[name] = self.keep(text.encode()) if rows else None
        done = {"completed": len(output), "failed": len(errors)}
        batch["request_counts"] = {"total": len(lines), **done}
        batch["status"] = "completed"


def _batch_handler(stub: BatchStub) -> type[BaseHTTPRequestHandler]:
    plain: Any = _handler(stub)

    class Handler(plain):  # type: ignore[misc]
        def do_GET(self) -> None:
            path = self.path.split("?")[0].removeprefix("/v1/")
            if path == "batches" and not stub.offers:
                self._send(404, '{"error": {"message": "no such route"}}', {})
            elif path == "batches":
                self._json(stub.listed(parse_qs(urlsplit(self.path).query)))
            elif path.startswith("batches/"):
                self._json(stub.shown(stub.batches[path.split("/")[1]]))
            elif path.startswith("files/") and stub.withheld:
                stub.withheld -= 1
                self._send(503, '{"error": {"message": "not now"}}', {})
            elif path.startswith("files/"):
                self._send(200, stub.files[path.split("/")[1]].decode(), {})
            else:
                super().do_GET()

        def do_POST(self) -> None:
            path = self.path.removeprefix("/v1/")
            if path not in ("files", "batches") and not path.endswith("/cancel"):
                super().do_POST()
                return
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if path == "files":
                self._json({"id": stub.keep(_part(body)), "object": "file"})
            elif path == "batches":
                self._json(stub.create(json.loads(body)))
            else:
                time.sleep(stub.slow_to_cancel)
                batch = stub.batches[path.split("/")[1]]
                batch["status"] = "cancelled"
                self._json(stub.shown(batch))

        def _json(self, value: Any) -> None:
            self._send(200, json.dumps(value), {})

    return Handler


def _part(body: bytes) -> bytes:
    """The uploaded file out of a multipart form."""
    border = body.split(b"\r\n", 1)[0]
    for part in body.split(border):
        if re.search(rb'name="file"', part):
            return part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
    raise AssertionError("no file in the form")
