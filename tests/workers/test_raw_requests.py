"""Bytes that no client library would send, to the API as it is served: refused, and it lives."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from service.app import create_app
from tests.support.served import served
from tests.support.trained_library import Trained

pytestmark = pytest.mark.integration

HOST = b"Host: 127.0.0.1\r\n"
JSON = b"Content-Type: application/json\r\n"
RUNS = b"POST /api/v1/runs HTTP/1.1\r\n"


@pytest.fixture(scope="module")
def address(trained: Trained) -> Iterator[str]:
    with served(create_app(trained.settings)) as address:
        yield address


def answer(address: str, sent: bytes) -> bytes:
    """All that comes back until the server closes, or falls silent."""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname, parts.port), timeout=3) as connection:
        connection.sendall(sent)
        came = b""
        try:
            while data := connection.recv(65536):
                came += data
        except (TimeoutError, ConnectionResetError):
            pass
        return came


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(
            RUNS + HOST + JSON + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\nGET /api/v1/audit HTTP/1.1\r\n" + HOST + b"\r\n",
            id="length and chunks",
        ),
        pytest.param(
            RUNS + HOST + JSON + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
            id="two lengths",
        ),
        pytest.param(RUNS + HOST + JSON + b"Content-Length: -5\r\n\r\n{}", id="negative length"),
        pytest.param(RUNS + HOST + JSON + b"Content-Length: 2x\r\n\r\n{}", id="length of letters"),
        pytest.param(
            RUNS + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n",
            id="chunk of letters",
        ),
        pytest.param(b"GET /api/v1/saes HTTP/1.1\r\n" + HOST + b"X-A : b\r\n\r\n", id="name space"),
        pytest.param(b"GET /api/v1/saes HTTP/1.1\r\n" + HOST + b"X\x00A: b\r\n\r\n", id="NUL name"),
        pytest.param(b"GET /api/v1/sa\x00es HTTP/1.1\r\n" + HOST + b"\r\n", id="NUL in the path"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", id="long path"),
        pytest.param(
            b"GET /api/v1/saes HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
            id="long header",
        ),
        pytest.param(b"GET /api/v1/saes HTTP/1.1\r\nHost: evil.example\r\n\r\n", id="another host"),
        pytest.param(
            b"GET /api/v1/saes HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n\r\n", id="two hosts"
        ),
        pytest.param(b"GET http://evil.example/api/v1/saes HTTP/1.1\r\n\r\n", id="no host"),
    ],
)
def test_strange_requests(address: str, sent: bytes) -> None:
    came = answer(address, sent)
    statuses = [
        int(line.split()[1]) for line in came.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")
    ]
    assert len(statuses) <= 1, "one request, one answer: nothing was smuggled in behind it"
    assert all(400 <= status < 500 for status in statuses), came[:300]
    assert httpx.get(f"{address}/api/v1/healthz").status_code == 200
