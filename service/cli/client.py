"""The CLI's side of the REST API: the library's client, and what each of its errors ends with."""

from __future__ import annotations

from monosemy.client import ApiError, Client, NotFound, ServiceUnreachable, segment

FAILED, USAGE, UNREACHABLE, NOT_FOUND = 1, 2, 3, 4

__all__ = [
    "FAILED",
    "NOT_FOUND",
    "UNREACHABLE",
    "USAGE",
    "ApiError",
    "Client",
    "exit_code_of",
    "segment",
]


def exit_code_of(error: ApiError) -> int:
    if isinstance(error, ServiceUnreachable) or error.status == 503:
        return UNREACHABLE
    if isinstance(error, NotFound):
        return NOT_FOUND
    return USAGE if error.status == 422 else FAILED
