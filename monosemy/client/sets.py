"""Sets: SAEs of one host model in several layers."""

from __future__ import annotations

from collections.abc import Iterator

from monosemy.client.transport import Transport, segment
from monosemy.specs.rest.sets import SetSummary, SetTable, SetView


class Sets:
    """``client.sets``; every method raises ``ApiError``.  A sweep over layers makes them."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def list(self, *, model: str | None = None) -> Iterator[SetSummary]:
        """Newest first."""
        return iter(self._http.call(SetTable, "GET", "/sets", model=model).items)

    def get(self, name: str | SetSummary) -> SetView:
        """With its SAEs, by layer."""
        called = name.name if isinstance(name, SetSummary) else name
        return self._http.call(SetView, "GET", f"/sets/{segment(called)}")
