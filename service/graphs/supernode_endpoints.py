"""/graphs/{graph}/supernodes"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Query

from monosemy.graphs.supernodes import LOOKED_AT
from monosemy.specs.rest.supernodes import MOST_GROUPED, ProposedSupernodes
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep
from service.edge.routing import ApiRouter
from service.graphs import repository
from service.graphs.endpoints import WHOLE, GraphReference
from service.graphs.supernodes import proposed
from service.keys.authorize import CanRead
from service.kit.problems import documented

router = ApiRouter(prefix="/graphs/{graph}/supernodes", tags=["graphs"], dependencies=[CanRead])


@router.get("", summary="Propose supernodes of a graph", responses=documented(404, 422))
async def propose(
    context: ContextDep,
    reference: GraphReference,
    features: Annotated[
        int,
        Query(ge=2, le=MOST_GROUPED, description="Of so many features of the most influence."),
    ] = LOOKED_AT,
) -> ProposedSupernodes:
    """Features with like edges and like explanations, beside what pairs of shuffled graphs come to;
    none whose paths leave it and come back. Nothing is stored."""
    return await context.lanes.reports.run(partial(_proposed, context, reference, features))


def _proposed(context: AppContext, reference: str, features: int) -> ProposedSupernodes:
    with transaction(context.engine) as session:
        row = repository.find_graph(session, reference, *WHOLE)
        return proposed(session, row, context.graphs.of(row), features)
