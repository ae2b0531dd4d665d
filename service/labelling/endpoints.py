"""GET /labelling"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Query
from sqlalchemy.orm import Session

from monosemy.specs.rest.labelling import LabellingMode, LabellingPage
from service.edge.context import SessionDep
from service.edge.routing import ApiRouter
from service.features.filters import FilterDep
from service.features.listing import (
    FIRST_SCORER,
    FeatureFilter,
    scorers_of,
    usual_scorer,
)
from service.keys.authorize import Caller, CallerDep, CanRead
from service.kit.errors import InvalidRequest
from service.kit.pagination import DEFAULT_LIMIT, CursorParam, Limit
from service.kit.problems import documented
from service.labelling.service import Work, labelling_page
from service.lists.service import require_list
from service.saes.repository import find_sae

router = ApiRouter(tags=["lists"], dependencies=[CanRead])

ModeParam = Annotated[
    LabellingMode,
    Query(
        description="`write` an explanation of one's own, `vote` on those there are, or `judge`:"
        " take the detection test of the best of them."
    ),
]
ListParam = Annotated[
    str | None, Query(alias="list", max_length=200, description="The features of this list.")
]
SaeParam = Annotated[
    str | None,
    Query(max_length=200, description="Those of this SAE, ordered and filtered as in its listing."),
]
TodoParam = Annotated[bool, Query(description="Only what the caller has not done yet.")]


@dataclass(frozen=True)
class Asked:
    """What is to be labelled, as an address names it."""

    wanted: FeatureFilter
    mode: LabellingMode
    listed: str | None
    """The name or id of a list."""
    sae: str | None
    todo: bool


def _asked(
    wanted: FilterDep,
    mode: ModeParam = "write",
    listed: ListParam = None,
    sae: SaeParam = None,
    todo: TodoParam = False,
) -> Asked:
    return Asked(wanted, mode, listed, sae, todo)


AskedDep = Annotated[Asked, Depends(_asked)]
"""Of the query ``mode``, ``list`` or ``sae``, ``todo``, and what ``FilterDep`` takes."""


@router.get(
    "/labelling", summary="List what waits for your label", responses=documented(404, 409, 422)
)
def list_all(
    session: SessionDep,
    caller: CallerDep,
    asked: AskedDep,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> LabellingPage:
    """Of a list or of an SAE, with how many there are and how many the caller has done."""
    return labelling_page(session, work_of(session, caller, asked), cursor, limit)


def work_of(session: Session, caller: Caller, asked: Asked) -> Work:
    """422 unless either a list or an SAE is named, 404 where there is none of that name."""
    listed, sae = asked.listed, asked.sae
    if (listed is None) == (sae is None):
        raise InvalidRequest([("list", "name a list or an SAE, one of the two")])
    sae_id = find_sae(session, sae)[0].id if sae is not None else None
    wanted = asked.wanted
    if wanted.scorer is None:
        usual = FIRST_SCORER if sae_id is None else usual_scorer(scorers_of(session, sae_id))
        wanted = replace(wanted, scorer=usual)
    return Work(
        mode=asked.mode,
        caller=caller,
        list_id=require_list(session, listed).id if listed is not None else None,
        sae_id=sae_id,
        wanted=wanted,
        todo=asked.todo,
    )
