"""A client of an app as it is on this machine: apps in open mode and parts serve no other."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.testclient import TestClient


def loopback_client(app: FastAPI) -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 5))
