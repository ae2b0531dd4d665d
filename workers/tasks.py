"""A task run of the service: SAEs of the database become a row of figures."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine

from monosemy.circuits.supervised.run import run_task
from monosemy.errors import DataError
from monosemy.models.host import HostModel
from monosemy.sae_folder import NamedFolder
from monosemy.specs import ModelSpec, TaskRun
from monosemy.specs.rest.tasks import summary_of
from monosemy.workspace import Workspace
from service.tasks.repository import keep_task
from workers.folders import folder_of
from workers.reporter import RunReporter
from workers.saes import named_sae


def evaluate_task_run(
    engine: Engine,
    workspace: Workspace,
    run_id: uuid.UUID,
    spec: TaskRun,
    load_host: Callable[[ModelSpec], HostModel],
    reporter: RunReporter,
) -> dict[str, Any]:
    """Executes a task run; its result is the summary.  ``DataError`` for an SAE that is named
    twice."""
    saes = [named_sae(engine, reference) for reference in spec.saes]
    ids = [sae.id for sae in saes]
    if len(set(ids)) < len(ids):
        raise DataError("The run names an SAE twice.")
    folders = [NamedFolder(sae.name, str(sae.id), folder_of(workspace, sae)) for sae in saes]
    result = run_task(spec, folders, load_host, reporter)
    reporter.commit(lambda session: keep_task(session, run_id, ids, result))
    return {"task_id": str(run_id), **summary_of(result).model_dump(mode="json")}
