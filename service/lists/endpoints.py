"""POST and GET /lists; a list shown, changed, deleted, exported"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Path, Query, Response
from fastapi.responses import StreamingResponse

from monosemy.specs.rest.lists import ExportFormat, ListChange, ListDetail, ListSummary, NewList
from monosemy.specs.rest.page import Page
from service.database.session import transaction
from service.edge.context import ContextDep, SessionDep
from service.edge.routing import ApiRouter
from service.features.filters import check_indices
from service.keys.authorize import CallerDep, CanRead, CanRun
from service.kit.errors import InvalidRequest
from service.kit.pagination import DEFAULT_LIMIT, CursorParam, Limit, by_time, paged
from service.kit.problems import documented
from service.lists import repository, service
from service.saes.repository import find_sae

router = ApiRouter(prefix="/lists", tags=["lists"])

ListReference = Annotated[
    str,
    Path(alias="list", max_length=200, description="Id or unique name of the list."),
]
OwnerParam = Annotated[
    str | None, Query(max_length=100, description="Only of this API key (id), or `local`.")
]
SaeParam = Annotated[
    str | None, Query(max_length=200, description="Only with features of this SAE.")
]
_MEDIA = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}


@router.post(
    "",
    status_code=201,
    summary="Begin a list",
    dependencies=[CanRun],
    responses=documented(409, 422),
)
def make(
    session: SessionDep, caller: CallerDep, context: ContextDep, response: Response, body: NewList
) -> ListSummary:
    """Empty, owned by whoever asks."""
    summary = service.make_list(session, body, caller)
    response.headers["Location"] = f"{context.settings.path_prefix}/api/v1/lists/{summary.id}"
    return summary


@router.get("", summary="List lists", dependencies=[CanRead], responses=documented(404, 422))
def list_all(
    session: SessionDep,
    owner: OwnerParam = None,
    sae: SaeParam = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
    feature: Annotated[
        int | None, Query(ge=0, lt=2**31, description="Only with this feature of `sae`.")
    ] = None,
) -> Page[ListSummary]:
    """Newest first."""
    if feature is not None and sae is None:
        raise InvalidRequest([("feature", "needs an SAE beside it: sae")])
    sae_id = None
    if sae is not None:
        row, _ = find_sae(session, sae)
        check_indices(row, [] if feature is None else [feature], "feature")
        sae_id = row.id
    return paged(
        ("lists", owner, str(sae_id), feature),
        by_time(),
        cursor,
        limit,
        partial(repository.list_lists, session, owner, sae_id, feature),
        partial(service.summaries, session),
    )


@router.get(
    "/{list}", summary="Show a list", dependencies=[CanRead], responses=documented(404, 422)
)
def show(
    session: SessionDep,
    reference: ListReference,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> ListDetail:
    """With a page of its entries, in their order; the cursor is theirs."""
    return service.list_page(session, service.require_list(session, reference), cursor, limit)


@router.patch(
    "/{list}",
    summary="Rename or describe a list",
    dependencies=[CanRun],
    responses=documented(404, 409, 422),
)
def change(
    session: SessionDep, caller: CallerDep, reference: ListReference, body: ListChange
) -> ListSummary:
    """With `revision` only if nobody has changed it since."""
    return service.change_list(session, service.lock_list(session, reference, caller), body)


@router.delete(
    "/{list}",
    status_code=204,
    summary="Delete a list",
    dependencies=[CanRun],
    responses=documented(404, 422),
)
def remove(session: SessionDep, caller: CallerDep, reference: ListReference) -> None:
    """With its entries; the features stay."""
    session.delete(service.lock_list(session, reference, caller))


@router.get(
    "/{list}/export",
    summary="Export a list",
    dependencies=[CanRead],
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "SAE, feature, label, explanation, density, max_activation and note of"
            " every entry.",
            "content": {"text/csv": {}, "application/x-ndjson": {}},
        },
        **documented(404, 422),
    },
)
def export(
    context: ContextDep,
    reference: ListReference,
    form: Annotated[
        ExportFormat, Query(alias="format", description="CSV, or one JSON object a line.")
    ] = "csv",
) -> StreamingResponse:
    """Every entry in its order, streamed."""
    with transaction(context.engine) as session:
        row = service.require_list(session, reference)
    return StreamingResponse(
        service.export(context.engine, row.id, form),
        media_type=_MEDIA[form],
        headers={"Content-Disposition": f'attachment; filename="list-{row.id}.{form}"'},
    )
