"""GET /spend"""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import Query

from monosemy.specs.rest.instants import Instant
from monosemy.specs.rest.spend import Grouping, SpendRow, SpendTable
from service.edge.context import SessionDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CanRead
from service.kit.problems import documented
from service.saes.repository import find_sae
from service.spend import repository

router = ApiRouter(prefix="/spend", tags=["spend"], dependencies=[CanRead])


@router.get("", summary="Sum up the judge's ledger", responses=documented(404, 422))
def show(
    session: SessionDep,
    by: Annotated[Grouping, Query(description="What to sum over.")] = "run",
    run: Annotated[uuid.UUID | None, Query(description="Only this run, or pipeline.")] = None,
    sae: Annotated[
        str | None, Query(max_length=200, description="Only runs over this SAE, by id or name.")
    ] = None,
    since: Annotated[
        Instant | None, Query(description="Only calls sent from then on, with time zone.")
    ] = None,
) -> SpendTable:
    """Every HTTP request to a judge has its row in the ledger, written before it is sent."""
    named = None
    if sae is not None:
        sae_row, _ = find_sae(session, sae)
        named = (sae_row.id, sae_row.name)
    rows, total = repository.spend(session, by, run, named, since)
    return SpendTable(
        by=by,
        items=[SpendRow.model_validate(row) for row in rows],
        total=SpendRow.model_validate(total),
    )
