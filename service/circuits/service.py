"""Rows of circuits put into what the API answers."""

from __future__ import annotations

from monosemy.specs.rest.circuits import CircuitHeader, CircuitView
from service.database.circuit_tables import Circuit


def header(row: Circuit) -> CircuitHeader:
    return CircuitHeader.model_validate({**row.summary, **_own(row)})


def view(row: Circuit) -> CircuitView:
    return CircuitView.model_validate({**row.result, **_own(row)})


def _own(row: Circuit) -> dict[str, object]:
    return {"id": row.id, "name": row.name, "model": row.model, "created_at": row.created_at}
