"""GET /audit"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Annotated

from fastapi import Query
from sqlalchemy import select

from monosemy.specs.rest.audit import AuditView
from monosemy.specs.rest.page import Page
from service.database.key_tables import AuditEntry
from service.edge.context import SessionDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CanAdminister
from service.kit.pagination import DEFAULT_LIMIT, CursorParam, Limit, Order, each, number_of, paged
from service.kit.problems import documented

router = ApiRouter(prefix="/audit", tags=["system"])

_BY_ID: Order[AuditEntry, int] = Order((int,), lambda row: (row.id,), number_of(2**63))


@router.get(
    "",
    summary="List what was changed, and by whom",
    dependencies=[CanAdminister],
    responses=documented(422),
)
def list_all(
    session: SessionDep,
    key: Annotated[uuid.UUID | None, Query(description="Only of this API key.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[AuditView]:
    """Newest first. Requests without a recognised key, and those that only read, leave none."""

    def read(before: int | None, most: int) -> Sequence[AuditEntry]:
        query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(most)
        if key is not None:
            query = query.where(AuditEntry.key_id == key)
        if before is not None:
            query = query.where(AuditEntry.id < before)
        return session.scalars(query).all()

    listing = ("audit", str(key))
    return paged(listing, _BY_ID, cursor, limit, read, each(AuditView.model_validate))
