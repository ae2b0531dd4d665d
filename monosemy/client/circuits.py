"""Circuits: heads of host models that do a task."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from monosemy.client.listing import listed
from monosemy.client.transport import Transport, segment
from monosemy.specs.rest.circuits import CircuitHeader, CircuitView

CircuitReference = uuid.UUID | str | CircuitHeader | CircuitView
"""Id of a circuit, which is that of its run, its name (of several the newest) or `latest`; or one
that was answered before."""


class Circuits:
    """``client.circuits``; every method raises ``ApiError``.  A run of kind ``circuit`` finds
    one."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def list(
        self, *, model: str | None = None, task: str | None = None, limit: int | None = None
    ) -> Iterator[CircuitHeader]:
        """Newest first."""
        return listed(self._http, CircuitHeader, "/circuits", limit, model=model, task=task)

    def get(self, circuit: CircuitReference) -> CircuitView:
        """Every head, the highest edges, and the checks."""
        return self._http.call(CircuitView, "GET", _path(circuit))

    def delete(self, circuit: CircuitReference) -> None:
        """Its run stays."""
        self._http.delete(_path(circuit))


def _path(circuit: CircuitReference) -> str:
    identity = circuit.id if isinstance(circuit, CircuitHeader | CircuitView) else circuit
    return f"/circuits/{segment(identity)}"
