"""A graph run of the service: SAEs of the database and a prompt become a stored graph."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from monosemy.errors import DataError
from monosemy.feature_circuit_stage import find_feature_circuit_run
from monosemy.feature_circuits.found import FoundFeatureCircuit
from monosemy.graph_stage import trace_graph_run
from monosemy.graphs.traced import TracedGraph
from monosemy.run_hosts import HostLoader
from monosemy.sae_folder import NamedFolder
from monosemy.specs import FeatureCircuitRun, GraphRun
from monosemy.workspace import Workspace
from service.database.session import transaction
from service.database.tables import Run, Sae
from service.graphs.repository import check_free
from service.graphs.storing import GraphDetails, NewGraph, keep_graph
from service.sets.service import saes_of_set
from workers.folders import folder_of
from workers.reporter import RunReporter
from workers.saes import named_sae

GraphMaking = GraphRun | FeatureCircuitRun
"""What makes a graph."""


def trace_graph(
    engine: Engine,
    workspace: Workspace,
    run_id: uuid.UUID,
    spec: GraphMaking,
    load_host: HostLoader,
    allowed: int,
    reporter: RunReporter,
) -> dict[str, Any]:
    """Executes a run that makes a graph; its result is the summary.  ``NotFound`` for a set or an
    SAE that is gone, ``NameTaken`` where there is another graph of that name, and ``DataError`` as
    ``trace_graph_run`` and ``find_feature_circuit_run``."""
    if spec.name is not None:
        with transaction(engine) as session:  # before the work
            check_free(session, spec.name, run_id)
    rows = _saes(engine, spec)
    saes = [NamedFolder(sae.name, str(sae.id), folder_of(workspace, sae)) for sae in rows]
    made: TracedGraph | FoundFeatureCircuit
    if isinstance(spec, FeatureCircuitRun):
        made = find_feature_circuit_run(spec, saes, load_host, reporter, allowed)
        details = GraphDetails(feature_circuit_spec=made.spec, feature_circuit=made.circuit)
    else:
        made = trace_graph_run(spec, saes, load_host, reporter, allowed)
        details = GraphDetails(spec=made.spec)

    def write(session: Session) -> str:
        new = NewGraph(
            id=run_id,
            name=spec.name,
            model=made.model,
            in_set=getattr(spec, "set", None),
            kind=spec.kind,
            prompt=made.prompt,
            graph=made.graph,
            whole=made.whole,
            summary=made.summary,
            saes=made.saes,
            details=details,
        )
        owner = session.scalar(select(Run.created_by).where(Run.id == run_id))
        return keep_graph(session, new, owner).name

    name = reporter.commit(write)
    summary = made.summary.model_dump(mode="json", exclude={"check"})
    result = {"graph_id": str(run_id), "name": name, **summary}
    if details.feature_circuit is not None:
        return {**result, "feature_circuit": details.feature_circuit.model_dump(mode="json")}
    return {**result, "checked": made.summary.check is not None}


def _saes(engine: Engine, spec: GraphMaking) -> list[Sae]:
    """Those of the set, then those that are named; ``DataError`` for one that is both."""
    named = [named_sae(engine, each) for each in spec.saes]
    if isinstance(spec, FeatureCircuitRun) or spec.set is None:
        return named
    with transaction(engine) as session:
        in_set = saes_of_set(session, spec.set)
    twice = {each.id for each in in_set} & {each.id for each in named}
    if twice:
        names = ", ".join(each.name for each in named if each.id in twice)
        raise DataError(f"The set {spec.set} has {names} already.", "Leave it out of saes.")
    return [*in_set, *named]
