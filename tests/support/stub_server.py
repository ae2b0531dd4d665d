"""An OpenAI-compatible endpoint that misbehaves on purpose: real HTTP, scripted answers."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Request = dict[str, Any]


@dataclass
class Answer:
    """One HTTP answer; ``body`` None makes a chat completion out of ``text``, or of ``message`` and
    ``usage`` where they are given."""

    text: str = ""
    status: int = 200
    finish: str = "stop"
    refusal: str | None = None
    body: str | bytes | None = None
    message: Any = None
    usage: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


def good(**values: Any) -> Answer:
    return Answer(json.dumps(values))


def error(status: int, message: str = "no", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, body=json.dumps({"error": {"message": message}}), headers=named)


class StubServer:
    """Answers from ``script`` first, one entry per chat request, then by ``respond``.

    The capability probe is answered apart (``on_probe``) and not counted in ``requests``; so are
    legacy completions (``on_complete``), which stand in ``completions``.
    """

    def __init__(
        self,
        script: Iterable[Answer] = (),
        respond: Callable[[Request], Answer] | None = None,
        on_probe: Callable[[Request], Answer] | None = None,
        models: tuple[str, ...] = ("stub",),
        on_complete: Callable[[Request], Answer] | None = None,
        listen: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.script = list(script)
        self.respond = respond or (lambda request: error(500, "the script is at its end"))
        self.on_probe = on_probe or (lambda request: good(colour="blue"))
        self.models = models
        self.on_complete = on_complete or (lambda request: error(404, "no such route"))
        self.listen = listen
        self.completions: list[Request] = []
        self.requests: list[Request] = []
        self.probes: list[Request] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.lock = threading.Lock()

    def __enter__(self) -> StubServer:
        self._server = ThreadingHTTPServer(self.listen, _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://{self.listen[0]}:{self._server.server_address[1]}/v1"

    def answer(self, request: Request, headers: dict[str, str]) -> Answer:
        if "prompt" in request:
            with self.lock:
                self.completions.append(request)
            return self.on_complete(request)
        if request["messages"][-1]["content"].endswith("Which colour is the sky by day?"):
            self.probes.append(request)
            return self.on_probe(request)
        with self.lock:
            self.requests.append(request)
            self.headers.append({name.lower(): value for name, value in headers.items()})
            self.times.append(time.monotonic())
            if self.script:
                return self.script.pop(0)
        return self.respond(request)


def _handler(stub: StubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, json.dumps({"data": [{"id": name} for name in stub.models]}), {})

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with stub.lock:
                stub.in_flight += 1
                stub.most_in_flight = max(stub.most_in_flight, stub.in_flight)
            answer = stub.answer(request, dict(self.headers))
            time.sleep(answer.delay)
            with stub.lock:
                stub.in_flight -= 1
            body = answer.body if answer.body is not None else json.dumps(_completion(answer))
            self._send(answer.status, body, answer.headers)

        def _send(self, status: int, body: str | bytes, headers: dict[str, str]) -> None:
            data = body.encode() if isinstance(body, str) else body
            try:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                pass  # the client gave up waiting

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _completion(answer: Answer) -> dict[str, Any]:
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "stub",
        "choices": [
            {
                "index": 0,
                "finish_reason": answer.finish,
                "message": answer.message
                or {
                    "role": "assistant",
                    "content": answer.text,
                    "refusal": answer.refusal,
                },
            }
        ],
        "usage": answer.usage
        or {
            "prompt_tokens": 100,
            "completion_tokens": 10,
            "total_tokens": 110,
            "prompt_tokens_details": {"cached_tokens": 40},
        },
    }


def texts_asked(request: Request) -> dict[str, str]:
    """The numbered texts in a detection request, read as a judge would read them."""
    content = request["messages"][-1]["content"]
    lines = re.findall(r"^(t\d+): (\".*\")$", content, re.MULTILINE)
    return {name: json.loads(text) for name, text in lines}


def asked_about(request: Request) -> str:
    """The explanation in a detection request."""
    content = request["messages"][-1]["content"]
    return str(json.loads(re.findall(r"^description: (\".*\")$", content, re.MULTILINE)[0]))
