"""Which origin a request came to, and from a page of which origin it came.

Our own origin is that of ``MONOSEMY_PUBLIC_URL`` where it is set.  Else it is the scheme (what a
trusted proxy says of it is in the scope by then) and the ``Host`` of the request.  Origins are
compared by scheme, host and port as they are parsed, never as texts.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from service.kit.errors import OtherOrigin
from service.settings import Settings
from service.settings.outbound import parse_address

READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing; all others are unsafe, and their origin is looked at."""

Page = Literal["own", "other", "untold"]
_LONGEST_NEXT = 2000
_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f]")
_LONGEST_SHOWN = 100


def own_origin(settings: Settings, scope: Mapping[str, Any]) -> str | None:
    """The origin that a request (or its scope) came to; None where its ``Host`` is none."""
    if settings.public_origin is not None:
        return settings.public_origin
    host = Headers(raw=scope["headers"]).get("host", "")
    return canonical(f"{scope['scheme']}://{host}")


def is_secure(settings: Settings, scope: Mapping[str, Any]) -> bool:
    """Whether browsers reach us by https."""
    return (own_origin(settings, scope) or "").startswith("https://")


def canonical(origin: str) -> str | None:
    """``origin`` in its one form; None for what is none, such as ``null``."""
    if origin.count("/") != 2:
        return None
    try:
        return parse_address(origin).origin
    except ValueError:
        return None


def page_of(settings: Settings, scope: Mapping[str, Any]) -> Page:
    """Whose page sent a request: our own, another, or untold (what is no browser says nothing).

    Browsers send ``Origin`` with everything unsafe, and ``null`` where they hide it; where it is
    left out, ``Sec-Fetch-Site`` tells.
    """
    headers = Headers(raw=scope["headers"])
    origins = headers.getlist("origin")
    if origins:
        own = own_origin(settings, scope)
        return "own" if own is not None and [*map(canonical, origins)] == [own] else "other"
    sites = headers.getlist("sec-fetch-site")
    if not sites or sites == ["none"]:
        return "untold"
    return "own" if sites == ["same-origin"] else "other"


def check_own_page(settings: Settings, scope: Mapping[str, Any]) -> None:
    """``OtherOrigin`` unless a page of ours sent the request."""
    if page_of(settings, scope) != "own":
        raise other_origin(settings, scope)


def check_no_other_page(settings: Settings, scope: Mapping[str, Any]) -> None:
    """``OtherOrigin`` where a page of another origin sent the request."""
    if page_of(settings, scope) == "other":
        raise other_origin(settings, scope)


def other_origin(settings: Settings, scope: Mapping[str, Any]) -> OtherOrigin:
    """The error that says which origin came, which is ours, and what to do."""
    headers = Headers(raw=scope["headers"])
    told = headers.get("origin")
    came = "does not say that it comes from a page of this server"
    if told is not None:
        came = f"comes from a page of '{told[:_LONGEST_SHOWN]}'"
    elif "sec-fetch-site" in headers:
        came = "comes from a page of another server"
    own = own_origin(settings, scope) or "its own address"
    return OtherOrigin(
        f"The request {came}; this server is {own}.",
        f"Open {own} and do it there. If that is not the address that browsers reach this server"
        " by, set MONOSEMY_PUBLIC_URL.",
    )


def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address) is this machine's loopback."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def host_of(url: str) -> str:
    """The host in ``url``; empty where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def safe_next(path: str | None) -> str:
    """``path`` if it can only lead to a page of ours, else ``/``.

    It begins with one ``/``; it has no ``//`` and no backslash (browsers take both for the start of
    a host), and no blank or control character (browsers leave some out).
    """
    if (
        path is None
        or not path.startswith("/")
        or "//" in path
        or "\\" in path
        or len(path) > _LONGEST_NEXT
        or _CONTROL.search(path)
    ):
        return "/"
    return path
