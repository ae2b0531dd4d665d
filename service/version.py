"""The installed version."""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata


@lru_cache
def version() -> str:
    try:
        return metadata.version("monosemy")
    except metadata.PackageNotFoundError:
        return "unknown"
