"""A client of an app as it is on this machine: apps in open mode and parts serve no other."""

from __future__ import annotations

import httpx
from fastapi import FastAPI
from fastapi.testclient import TestClient

from monosemy.client import Client


def loopback_client(app: FastAPI) -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 5))


def typed_client(server: TestClient) -> Client:
    """The library's client, whose calls an app in this process answers."""

    def forward(request: httpx.Request) -> httpx.Response:
        plain = {**request.headers, "accept-encoding": "identity"}
        url, body = str(request.url), request.read()
        answer = server.request(request.method, url, content=body, headers=plain)
        return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)

    return Client("http://127.0.0.1:8420", transport=httpx.MockTransport(forward))
