"""The CLI's side of the REST API: the library's client."""

from __future__ import annotations

from monosemy.client import ApiError, Client, NotFound, ServiceUnreachable, segment

__all__ = ["ApiError", "Client", "NotFound", "ServiceUnreachable", "segment"]
