"""Graph runs of the service: SAEs of the database and prompts become stored graphs."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from monosemy.errors import DataError
from monosemy.feature_circuit_stage import find_feature_circuit_run
from monosemy.graph_stage import PROMPTS, GraphTracing
from monosemy.graphs.traced import KeptGraph, TracedGraph
from monosemy.run_hosts import HostLoader
from monosemy.sae_folder import NamedFolder
from monosemy.specs import FeatureCircuitRun, GraphRun
from monosemy.specs.graphs import GraphSpec
from monosemy.workspace import Workspace
from service.database.graph_tables import StoredGraph
from service.database.session import transaction
from service.database.tables import Run, Sae
from service.graphs.repository import check_free, graphs_of_run
from service.graphs.storing import GraphDetails, NewGraph, keep_graph
from service.sets.service import saes_of_set
from workers.folders import folder_of
from workers.reporter import RunReporter
from workers.saes import named_sae

GraphMaking = GraphRun | FeatureCircuitRun
"""What makes a graph."""


@dataclass(frozen=True)
class _Wanted:
    """A graph of a run, before it is traced."""

    id: uuid.UUID
    place: int
    name: str | None
    spec: GraphSpec


def make_graphs(
    engine: Engine,
    workspace: Workspace,
    run_id: uuid.UUID,
    spec: GraphMaking,
    load_host: HostLoader,
    allowed: int,
    reporter: RunReporter,
) -> dict[str, Any]:
    """Executes a run that makes a graph, or several; its result is the summary, of several prompts
    a list of them.

    ``NotFound`` for a set or an SAE that is gone, ``NameTaken`` where there is another graph of a
    wanted name, and ``DataError`` as ``GraphTracing`` and ``find_feature_circuit_run``.
    """
    names = [(run_id, spec.name)]
    if isinstance(spec, GraphRun):
        names = [(each.id, each.name) for each in _wanted(run_id, spec)]
    with transaction(engine) as session:  # before the work
        for id, name in names:
            if name is not None:
                check_free(session, name, id)
    rows = _saes(engine, spec)
    saes = [NamedFolder(sae.name, str(sae.id), folder_of(workspace, sae)) for sae in rows]
    if isinstance(spec, FeatureCircuitRun):
        return _find_circuit(run_id, spec, saes, load_host, allowed, reporter)
    return _trace(engine, run_id, spec, GraphTracing(saes, load_host, allowed), reporter)


def _find_circuit(
    run_id: uuid.UUID,
    spec: FeatureCircuitRun,
    saes: Sequence[NamedFolder],
    load_host: HostLoader,
    allowed: int,
    reporter: RunReporter,
) -> dict[str, Any]:
    made = find_feature_circuit_run(spec, saes, load_host, reporter, allowed)
    details = GraphDetails(feature_circuit_spec=made.spec, feature_circuit=made.circuit)
    new = _new(run_id, spec, made, details=details, id=run_id, name=spec.name)
    row = _keep(reporter, new)
    circuit = made.circuit.model_dump(mode="json")
    return {**_of_row(row), "feature_circuit": circuit}


def _trace(
    engine: Engine, run_id: uuid.UUID, spec: GraphRun, tracing: GraphTracing, reporter: RunReporter
) -> dict[str, Any]:
    """Each graph is stored when it is traced: a later attempt goes on with the prompts that have
    none."""
    wanted = _wanted(run_id, spec)

    def keep(one: _Wanted, made: TracedGraph) -> StoredGraph:
        new = _new(
            run_id,
            spec,
            made,
            details=GraphDetails(spec=made.spec),
            id=one.id,
            name=one.name,
            place=one.place,
            prompts=len(wanted),
            in_set=spec.set,
            firing=made.firing,
        )
        return _keep(reporter, new)

    if spec.prompt is not None:
        return _result(keep(wanted[0], tracing.graph(wanted[0].spec, reporter)))
    tracing.check_prompts([each.spec for each in wanted])
    done = _done(engine, run_id, tracing)
    left = [each for each in wanted if each.id not in done]
    with reporter.stage(PROMPTS, len(wanted), "prompts", len(wanted) - len(left)) as stage:
        for each in left:
            keep(each, tracing.graph_among(each.place, each.spec, stage, reporter))
            stage.advance()
    with transaction(engine) as session:
        return {"graphs": [_result(row) for row in graphs_of_run(session, run_id)]}


def _wanted(run_id: uuid.UUID, spec: GraphRun) -> list[_Wanted]:
    """A single graph has the run's id, others have ids of their own, equal in every attempt."""
    pairs = enumerate(zip(spec.graph_names(), spec.graph_specs(), strict=True))
    return [
        _Wanted(run_id if spec.prompt is not None else uuid.uuid5(run_id, str(at)), at, name, one)
        for at, (name, one) in pairs
    ]


def _done(engine: Engine, run_id: uuid.UUID, tracing: GraphTracing) -> set[uuid.UUID]:
    """Graphs that an earlier attempt stored, of SAEs with the weights that they have now."""
    digests = [each.digest for each in tracing.stamps]
    with transaction(engine) as session:
        return {
            row.id
            for row in graphs_of_run(session, run_id)
            if [each["digest"] for each in row.saes] == digests
        }


def _new(
    run_id: uuid.UUID, spec: GraphMaking, made: KeptGraph, details: GraphDetails, **own: Any
) -> NewGraph:
    return NewGraph(
        run_id=run_id,
        kind=spec.kind,
        model=made.model,
        prompt=made.prompt,
        graph=made.graph,
        whole=made.whole,
        summary=made.summary,
        saes=made.saes,
        details=details,
        **own,
    )


def _keep(reporter: RunReporter, new: NewGraph) -> StoredGraph:
    def write(session: Session) -> StoredGraph:
        owner = session.scalar(select(Run.created_by).where(Run.id == new.run_id))
        return keep_graph(session, new, owner)

    return reporter.commit(write)


def _of_row(row: StoredGraph) -> dict[str, Any]:
    return {"graph_id": str(row.id), "name": row.name, **row.summary}


def _result(row: StoredGraph) -> dict[str, Any]:
    return {**_of_row(row), "checked": row.checked}


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
