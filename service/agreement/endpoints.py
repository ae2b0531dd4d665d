"""GET /agreement"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Query

from monosemy.specs.rest.agreement import Agreement, AgreementOf
from service.agreement.service import agreement
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CanRead
from service.kit.problems import documented
from service.lists.service import require_list
from service.saes.repository import find_sae

router = ApiRouter(tags=["explanations"], dependencies=[CanRead])

OfParam = Annotated[
    AgreementOf,
    Query(description="`votes` on explanations, or the texts of people's detection tests."),
]
SaeParam = Annotated[
    str | None, Query(max_length=200, description="Only features of this SAE, by id or name.")
]
ListParam = Annotated[
    str | None,
    Query(alias="list", max_length=200, description="Only features of this list, by id or name."),
]


@router.get(
    "/agreement", summary="See how far people and judges agree", responses=documented(404, 422)
)
async def show(
    context: ContextDep, of: OfParam = "votes", sae: SaeParam = None, listed: ListParam = None
) -> Agreement:
    """Cohen's kappa of every two, with its 95 % interval, over what both answered.  Of detection
    tests, the judges whose very texts people were given are among them."""
    return await context.lanes.reports.run(partial(_shown, context, of, sae, listed))


def _shown(context: AppContext, of: AgreementOf, sae: str | None, listed: str | None) -> Agreement:
    with transaction(context.engine) as session:
        sae_id = find_sae(session, sae)[0].id if sae is not None else None
        list_id = require_list(session, listed).id if listed is not None else None
        return agreement(session, of, sae_id, list_id)
