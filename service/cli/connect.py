"""The API that ``MONOSEMY_URL`` names."""

from __future__ import annotations

from service.cli.client import Client
from service.settings import Settings


def connect() -> Client:
    """A client with the configured address and key."""
    settings = Settings()
    return Client(settings.url, settings.api_key)
