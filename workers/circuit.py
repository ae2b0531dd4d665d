"""Finding a circuit for a run: what the library finds becomes a row."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from monosemy.circuits.search import find_circuit
from monosemy.models.host import HostModel
from monosemy.specs import CircuitRun
from monosemy.specs.rest.circuits import CircuitSummary
from service.circuits.repository import store_circuit
from service.database.tables import Run
from workers.reporter import RunReporter

_LONGEST_NAME = 100


def find_circuit_of_run(
    run_id: uuid.UUID, spec: CircuitRun, host: HostModel, reporter: RunReporter
) -> dict[str, Any]:
    """Executes a circuit run; its result is the summary."""
    result = find_circuit(host, spec, reporter)
    name = spec.name or f"{spec.prompts.task} in {Path(spec.model.name).name}"[:_LONGEST_NAME]

    def write(session: Session) -> None:
        owner = session.scalar(select(Run.created_by).where(Run.id == run_id))
        store_circuit(session, run_id, name, spec.model.name, result, owner)

    reporter.commit(write)
    summary = CircuitSummary.model_validate(result.model_dump())
    return {"circuit_id": str(run_id), "name": name, **summary.model_dump(mode="json")}
