"""Server-sent events, as the service streams them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerEvent:
    """One whole event."""

    id: str | None
    """Of the last event that had one."""
    name: str
    data: str


def server_events(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """Whole events alone: one that a broken connection cut off is left out."""
    identity: str | None = None
    name = ""
    data: list[str] = []
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield ServerEvent(identity, name, "\n".join(data))
            name, data = "", []
        elif field == "id":
            identity = value.strip()
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
