"""Settings of an API that tests make: a real database, no Redis, an inference server played by
``FakeInference``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from service.settings import Settings

SECRET = "a-secret-of-thirty-two-characters"
CLOSED: dict[str, Any] = {"require_keys": True, "secret": SECRET}
"""Where keys are asked for."""


def api_settings(home: Path, database_url: str, **more: Any) -> Settings:
    """``more``: what is otherwise than usual."""
    usual = {
        "redis_url": None,
        "inference_url": "http://inference.test",
        "log_level": "WARNING",
    }
    return Settings(home=home, database_url=database_url, **{**usual, **more})
