"""A concept run of the service: texts become a stored concept."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine

from monosemy.concepts.run import run_concept
from monosemy.models.host import HostModel
from monosemy.specs import ConceptRun, ModelSpec
from monosemy.specs.rest.concepts import summary_of
from monosemy.workspace import Workspace
from service.concepts.repository import check_free, keep_concept
from service.database.session import transaction
from workers.folders import folder_of
from workers.reporter import RunReporter
from workers.saes import named_sae


def find_concept_run(
    engine: Engine,
    workspace: Workspace,
    run_id: uuid.UUID,
    spec: ConceptRun,
    load_host: Callable[[ModelSpec], HostModel],
    reporter: RunReporter,
) -> dict[str, Any]:
    """Executes a concept run; its result is the summary.  ``NameTaken`` where there is
    another concept of that name."""
    sae = named_sae(engine, spec.sae)
    with transaction(engine) as session:  # before the work
        check_free(session, spec.name, run_id)
    result = run_concept(spec, folder_of(workspace, sae), load_host, reporter)
    reporter.commit(lambda session: keep_concept(session, run_id, sae.id, result))
    return {"concept_id": str(run_id), **summary_of(result).model_dump(mode="json")}
