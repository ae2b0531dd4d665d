"""Whom the API may serve: others only with keys."""

from __future__ import annotations

from service.edge.middleware import is_loopback
from service.keys.service import digest
from service.kit.errors import Misconfigured
from service.settings import Settings


def check_exposure(settings: Settings) -> None:
    """Open mode is for this machine alone; key mode needs the secret that keys are stored under.

    Raises ``Misconfigured``.
    """
    if settings.require_keys:
        digest("", settings.secret)
    elif not is_loopback(settings.host):
        raise Misconfigured(
            f"The API would listen on {settings.host} without asking for keys.",
            "Set MONOSEMY_REQUIRE_KEYS=true and MONOSEMY_SECRET, or listen on 127.0.0.1.",
        )
