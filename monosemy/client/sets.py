"""Sets: SAEs of one host model in several layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from monosemy.client.library import SaeReference, sae_names
from monosemy.client.transport import Transport, segment
from monosemy.specs import parse_part
from monosemy.specs.rest.sets import NewSet, SetSummary, SetTable, SetView


class Sets:
    """``client.sets``; every method raises ``ApiError``.  A sweep over layers makes them, and
    ``create`` of SAEs that are there."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def list(self, *, model: str | None = None) -> Iterator[SetSummary]:
        """Newest first."""
        return iter(self._http.call(SetTable, "GET", "/sets", model=model).items)

    def create(self, name: str, saes: Sequence[SaeReference]) -> SetView:
        """A set of stored SAEs of one host model, in any order."""
        body = parse_part(NewSet, {"name": name, "saes": sae_names("saes", saes)})
        return self._http.call(SetView, "POST", "/sets", body)

    def delete(self, name: str | SetSummary) -> None:
        """Its SAEs stay."""
        called = name.name if isinstance(name, SetSummary) else name
        self._http.delete(f"/sets/{segment(called)}")

    def get(self, name: str | SetSummary) -> SetView:
        """With its SAEs, by layer."""
        called = name.name if isinstance(name, SetSummary) else name
        return self._http.call(SetView, "GET", f"/sets/{segment(called)}")
