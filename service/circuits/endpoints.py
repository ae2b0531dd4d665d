"""/circuits"""

from __future__ import annotations

import uuid
from functools import partial
from typing import Annotated

from fastapi import Path, Query, Response

from monosemy.specs.rest.circuits import CircuitHeader, CircuitView
from monosemy.specs.rest.page import Page
from service.circuits import repository
from service.circuits.service import header, view
from service.database.circuit_tables import Circuit
from service.edge.context import SessionDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CallerDep, CanRead, CanRun
from service.keys.ownership import check_owner
from service.kit.pagination import (
    DEFAULT_LIMIT,
    CursorParam,
    Limit,
    Order,
    TimeKey,
    by_time,
    each,
    paged,
)
from service.kit.problems import documented

router = ApiRouter(prefix="/circuits", tags=["circuits"])

CircuitId = Annotated[uuid.UUID, Path(description="Id of the circuit: that of its run.")]


@router.get("", summary="List circuits", dependencies=[CanRead], responses=documented(422))
def list_all(
    session: SessionDep,
    model: Annotated[
        str | None, Query(max_length=1000, description="Only those of this host model.")
    ] = None,
    task: Annotated[
        str | None, Query(max_length=200, description="Only those of this task.")
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[CircuitHeader]:
    """Newest first.  A run of kind `circuit` finds one."""
    order: Order[Circuit, TimeKey] = by_time(lambda row: row)
    read = partial(repository.list_circuits, session, model, task)
    return paged(("circuits", model, task), order, cursor, limit, read, each(header))


@router.get(
    "/{circuit}",
    summary="Show a circuit",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def show(session: SessionDep, circuit: CircuitId) -> CircuitView:
    """Every head with its score, what shuffled labels give and its false discovery rate; the pairs
    of heads of the highest z; how much seeds agree; what is left of the answers with the heads
    alone, and without them."""
    return view(repository.find_circuit(session, circuit))


@router.delete(
    "/{circuit}",
    summary="Delete a circuit",
    status_code=204,
    dependencies=[CanRun],
    responses=documented(404, 422),
)
def remove(session: SessionDep, caller: CallerDep, circuit: CircuitId) -> Response:
    """Its run stays. Only for the API key whose run found it and for administrators."""
    row = repository.find_circuit(session, circuit)
    check_owner(caller, row.created_by, "the circuit")
    repository.delete_circuit(session, circuit)
    return Response(status_code=204)
