"""A reverse proxy that ends TLS: the standard library's server, a certificate made by openssl."""

from __future__ import annotations

import http.client
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SEEN_AS = "203.0.113.9"
"""Whom the proxy names as the sender."""
_OWN = {"connection", "transfer-encoding", "content-length", "keep-alive"}


def why_no_certificate() -> str | None:
    """Why none can be made here, or None."""
    return None if shutil.which("openssl") else "openssl, which makes the certificate, is missing"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine, signed by itself, and its key."""
    made, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(made)),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return made, key


class Proxy(ThreadingHTTPServer):
    """Hands what lies below ``prefix`` on to ``upstream``, without the prefix."""

    daemon_threads = True
    upstream = ""
    prefix = ""

    @property
    def address(self) -> str:
        return f"https://localhost:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if not self.path.startswith(f"{self.server.prefix}/"):
            self.send_error(404)
            return
        sent = {name: value for name, value in self.headers.items() if name.lower() not in _OWN}
        sent |= {"X-Forwarded-For": SEEN_AS, "X-Forwarded-Proto": "https"}
        place = urlsplit(self.server.upstream)
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=30)
        try:
            path = self.path.removeprefix(self.server.prefix)
            connection.request(self.command, path, body or None, sent)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _OWN:
                self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _forward

    def log_message(self, *_: Any) -> None:
        """Nothing: the test says what was asked."""


@contextmanager
def tls_proxy(folder: Path, prefix: str = "") -> Iterator[tuple[Proxy, ssl.SSLContext]]:
    """A proxy that listens, whose ``upstream`` is to be set; and what trusts its certificate."""
    made, key = certificate(folder)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(made, key)
    proxy = Proxy(("127.0.0.1", 0), _Handler)
    proxy.prefix = prefix
    proxy.socket = server_side.wrap_socket(proxy.socket, server_side=True)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy, ssl.create_default_context(cafile=str(made))
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join(10)
