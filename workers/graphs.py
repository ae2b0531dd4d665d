"""A graph run of the service: SAEs of the database and a prompt become a stored graph."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from monosemy.graph_stage import trace_graph_run
from monosemy.run_hosts import HostLoader
from monosemy.sae_folder import NamedFolder
from monosemy.specs import GraphRun
from monosemy.workspace import Workspace
from service.database.session import transaction
from service.database.tables import Run, Sae
from service.graphs.repository import check_free
from service.graphs.storing import GraphDetails, NewGraph, keep_graph
from service.sets.service import saes_of_set
from workers.folders import folder_of
from workers.reporter import RunReporter
from workers.saes import named_sae


def trace_graph(
    engine: Engine,
    workspace: Workspace,
    run_id: uuid.UUID,
    spec: GraphRun,
    load_host: HostLoader,
    allowed: int,
    reporter: RunReporter,
) -> dict[str, Any]:
    """Executes a graph run; its result is the summary.  ``NotFound`` for a set or an SAE that is
    gone, ``NameTaken`` where there is another graph of that name, and ``DataError`` as
    ``trace_graph_run``."""
    if spec.name is not None:
        with transaction(engine) as session:  # before the work
            check_free(session, spec.name, run_id)
    rows = _saes(engine, spec)
    saes = [NamedFolder(sae.name, str(sae.id), folder_of(workspace, sae)) for sae in rows]
    made = trace_graph_run(spec, saes, load_host, reporter, allowed)

    def write(session: Session) -> str:
        new = NewGraph(
            id=run_id,
            name=spec.name,
            model=made.model,
            in_set=spec.set,
            prompt=spec.prompt,
            graph=made.graph,
            whole=made.whole,
            summary=made.summary,
            saes=made.saes,
            details=GraphDetails(spec=made.spec),
        )
        owner = session.scalar(select(Run.created_by).where(Run.id == run_id))
        return keep_graph(session, new, owner).name

    name = reporter.commit(write)
    summary = made.summary.model_dump(mode="json", exclude={"check"})
    checked = made.summary.check is not None
    return {"graph_id": str(run_id), "name": name, **summary, "checked": checked}


def _saes(engine: Engine, spec: GraphRun) -> list[Sae]:
    if spec.set is None:
        return [named_sae(engine, each) for each in spec.saes]
    with transaction(engine) as session:
        return saes_of_set(session, spec.set)
