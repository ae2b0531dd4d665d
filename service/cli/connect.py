"""The API that the CLI calls: the library's client, which finds it by its own rule."""

from __future__ import annotations

from service.cli.client import Client
from service.settings import Settings


def connect() -> Client:
    """A client with the configured address and key, which does not wait for a busy service."""
    settings = Settings()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    return Client(key=key, patience=0)
