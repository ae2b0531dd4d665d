"""Whom the API may serve, and where: others only with keys, below no path of its own."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from service.edge.origin import is_loopback
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


def check_prefix(app: FastAPI, prefix: str) -> None:
    """``Misconfigured`` for a prefix that could be taken for the beginning of a path of ours: the
    proxy takes it off, and nobody could tell whether it has."""
    ours = {(context.path or "").split("/")[1] for context in iter_route_contexts(app.routes)}
    if prefix and prefix.split("/")[1] in ours:
        raise Misconfigured(
            f"MONOSEMY_PUBLIC_URL has the path '{prefix}', which begins like a page of ours.",
            "Have the proxy serve this server below another path, such as /monosemy.",
        )
