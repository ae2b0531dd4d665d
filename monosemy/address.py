"""Where the service is: the one rule by which the client, the CLI and the settings find it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_HOME = "~/.monosemy"
DEFAULT_URL = "http://127.0.0.1:8420"
PREFIX = "/api/v1"
"""Where the calls of REST begin."""


@dataclass(frozen=True)
class ServiceAddress:
    url: str
    source: str
    """Where it comes from, as a sentence."""


def service_address(home: str | Path | None = None) -> ServiceAddress:
    """``MONOSEMY_URL``, else that of the stack that runs in ``home`` (by default
    ``MONOSEMY_HOME``), else this machine at ``MONOSEMY_PORT``."""
    given = os.environ.get("MONOSEMY_URL")
    if given:
        return ServiceAddress(given, "The address comes from MONOSEMY_URL.")
    file = stack_file(home)
    url = read_stack(file).get("url")
    if isinstance(url, str) and url:
        return ServiceAddress(url, f"The address comes from {file}.")
    port = os.environ.get("MONOSEMY_PORT", "").strip()
    usual = not (port.isdecimal() and int(port))
    default = DEFAULT_URL if usual else f"http://127.0.0.1:{int(port)}"
    why = f"MONOSEMY_URL is not set, and there is no stack in {file.parent}"
    return ServiceAddress(
        default, f"That is the default{'' if usual else ' with MONOSEMY_PORT'}: {why}."
    )


def stack_file(home: str | Path | None = None) -> Path:
    """What ``monosemy up`` writes while it runs."""
    return Path(home or os.environ.get("MONOSEMY_HOME") or DEFAULT_HOME).expanduser() / "stack.json"


def read_stack(file: Path) -> dict[str, Any]:
    """What a stack's file says; empty where there is none or it is damaged.  That of a killed
    stack may still be there."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def base_of(url: str) -> str:
    """``url`` without what every call begins with: it may be written with ``/api/v1`` or not."""
    return url.strip().rstrip("/").removesuffix(PREFIX).rstrip("/")
