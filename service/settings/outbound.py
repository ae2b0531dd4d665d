"""Where this service may be sent: addresses and names of the hub that a request brings along.

What the server's own configuration names (its judge, its inference server, the hub's endpoint) is
not asked about here.  Addresses are compared by scheme, host and port as they are parsed, never as
texts, and whatever could be parsed in two ways is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(
    r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.ASCII | re.IGNORECASE
)
_PATH = re.compile(r"(/[A-Za-z0-9._~-]*)*", re.ASCII)
_ANY_LETTER = re.compile("[A-Za-z]")
_HUB_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}|\*", re.ASCII)


@dataclass(frozen=True)
class Address:
    """An address in its one form: lower case, no trailing dot, the port always there."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        """Scheme, host and, where it is not the usual one, port: as browsers write an origin."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


@dataclass(frozen=True)
class _Allowed:
    """None stands for any scheme, and for its usual port."""

    scheme: str | None
    host: str
    port: int | None
    path: str

    def covers(self, address: Address) -> bool:
        path = self.path.rstrip("/")
        return (
            self.scheme in (None, address.scheme)
            and self.host == address.host
            and (self.port or _PORTS[address.scheme]) == address.port
            and (address.path == path or address.path.startswith(f"{path}/"))
        )


def parse_address(url: str) -> Address:
    """``ValueError`` for what is no plain http or https address.

    Refused are user names, queries, fragments, hosts that are numbers in another form than the
    usual one (decimal, octal, short), names outside ASCII, zones, and paths with ``..``, empty
    parts or escapes.
    """
    parts = _split(url)
    if parts.scheme.lower() not in _PORTS:
        raise ValueError("it does not begin with http:// or https://")
    scheme = parts.scheme.lower()
    if "?" in url or "#" in url:
        raise ValueError("it has a query or a fragment")
    host, port = _host_and_port(parts)
    return Address(scheme, host, port or _PORTS[scheme], _plain_path(parts.path))


def _split(url: str) -> SplitResult:
    if not url.isascii() or not url.isprintable() or re.search(r"[\s\\]", url):
        raise ValueError("it holds characters that no address has")
    return urlsplit(url)


def _host_and_port(parts: SplitResult) -> tuple[str, int | None]:
    if "@" in parts.netloc or parts.username is not None:
        raise ValueError("it holds a user name")
    port = parts.port  # ValueError for one that is none
    if "[" in parts.netloc and not re.fullmatch(r"\[[^\[\]]+\](:\d+)?", parts.netloc):
        raise ValueError("its host is none")
    if parts.netloc.endswith(":") or port == 0:
        raise ValueError("its port is none")
    return _canonical_host(parts.hostname or "", "[" in parts.netloc), port


def _canonical_host(host: str, bracketed: bool) -> str:
    host = host.lower()
    if not bracketed:
        host = host.removesuffix(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        last = host.rpartition(".")[2]
        if bracketed or not _HOST.fullmatch(host) or len(host) > 253:
            raise ValueError("its host is none") from None
        # 2130706433, 0x7f.1 and 127.1 are addresses to some and names to others.
        if not _ANY_LETTER.search(last) or re.fullmatch("0x[0-9a-f]*", last):
            raise ValueError("its host is a number in an unusual form") from None
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if not bracketed or address.scope_id:
            raise ValueError("its host is none")
        return str(address.ipv4_mapped or address)
    return str(address)


def _plain_path(path: str) -> str:
    path = path.rstrip("/")
    if not _PATH.fullmatch(path) or re.search(r"/(\.{1,2})?(/|$)", path):
        raise ValueError("its path is not plain")
    return path


class AllowList:
    """Hosts (``judge.example``, ``judge.example:8000``) and prefixes of addresses
    (``https://judge.example/v1``).

    A host alone is allowed with either scheme at its usual port.  ``ValueError`` for others.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._allowed = [_entry(each) for each in entries]

    def covers(self, url: str) -> bool:
        """Whether ``url`` is under one of them; ``ValueError`` if it is no plain address."""
        address = parse_address(url)
        return any(each.covers(address) for each in self._allowed)


def _entry(text: str) -> _Allowed:
    if "://" in text:
        address = parse_address(text)
        return _Allowed(address.scheme, address.host, address.port, address.path)
    parts = _split(f"//{text}")
    if parts.path or parts.query or parts.fragment:
        raise ValueError(f"'{text}' is no host; a prefix begins with http:// or https://")
    host, port = _host_and_port(parts)
    return _Allowed(None, host, port, "")


class HubNames:
    """Repositories of the hub that may be named: ``*``, ``owner/*`` or ``owner/name``."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [pattern.lower() for pattern in patterns]
        for pattern in self._patterns:
            parts = pattern.split("/")
            if len(parts) > 2 or not all(_HUB_PART.fullmatch(part) for part in parts):
                raise ValueError(f"'{pattern}' is no repository of the hub, such as owner/name")

    def cover(self, name: str) -> bool:
        """Whether ``name`` (owner/name, or a name without owner) is one of them; case is ignored,
        as the hub ignores it."""
        name = name.lower()
        owner, slash, _ = name.partition("/")
        wanted = ("*", name, f"{owner}/*") if slash else ("*", name)
        return any(each in wanted for each in self._patterns)
