"""/circuits"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Path, Query, Response

from monosemy.specs.circuits import CircuitTask
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
from service.models.repository import check_known

router = ApiRouter(prefix="/circuits", tags=["circuits"])

CircuitReference = Annotated[
    str,
    Path(
        alias="circuit",
        max_length=200,
        description="Id of the circuit (that of its run) or its name, of several the newest of"
        " which is taken; `latest` for the newest of all.",
    ),
]


@router.get("", summary="List circuits", dependencies=[CanRead], responses=documented(404, 422))
def list_all(
    session: SessionDep,
    model: Annotated[
        str | None, Query(max_length=1000, description="Only those of this host model.")
    ] = None,
    task: Annotated[CircuitTask | None, Query(description="Only those of this task.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[CircuitHeader]:
    """Newest first.  A run of kind `circuit` finds one. 404 for a host model that nothing here is
    of."""
    order: Order[Circuit, TimeKey] = by_time(lambda row: row)
    read = partial(repository.list_circuits, session, model, task)
    page = paged(("circuits", model, task), order, cursor, limit, read, each(header))
    if not page.items:
        check_known(session, model)
    return page


@router.get(
    "/{circuit}",
    summary="Show a circuit",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def show(session: SessionDep, reference: CircuitReference) -> CircuitView:
    """Every head with its score, what shuffled labels give and its false discovery rate; the pairs
    of heads of the highest z; how much seeds agree; what is left of the answers with the heads
    alone, and without them."""
    return view(repository.find_circuit(session, reference))


@router.delete(
    "/{circuit}",
    summary="Delete a circuit",
    status_code=204,
    dependencies=[CanRun],
    responses=documented(404, 409, 422),
)
def remove(session: SessionDep, caller: CallerDep, reference: CircuitReference) -> Response:
    """Its run stays. Only for the API key whose run found it and for administrators. 409 for a name
    that several have."""
    row = repository.find_circuit(session, reference, only=True)
    check_owner(caller, row.created_by, "the circuit")
    repository.delete_circuit(session, row.id)
    return Response(status_code=204)
