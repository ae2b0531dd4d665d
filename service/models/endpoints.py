"""GET /models"""

from __future__ import annotations

from monosemy.specs.rest.models import ModelSummary
from monosemy.specs.rest.page import Page
from service.edge.context import SessionDep
from service.edge.routing import Router
from service.keys.authorize import CanRead
from service.kit.pagination import (
    DEFAULT_LIMIT,
    CursorParam,
    Limit,
    cut,
    decode_time_cursor,
    encode_time_cursor,
)
from service.kit.problems import documented
from service.models.repository import list_models

router = Router(prefix="/models", tags=["models"], dependencies=[CanRead])


@router.get("", summary="List host models", responses=documented(422))
def list_host_models(
    session: SessionDep, limit: Limit = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[ModelSummary]:
    """The language models that SAEs were trained on, newest first."""
    before = decode_time_cursor("models", cursor)
    rows, more = cut(list_models(session, before, limit + 1), limit)
    items = [
        ModelSummary(
            id=model.id,
            name=model.name,
            spec=model.spec,
            info=model.info,
            created_at=model.created_at,
            saes=saes,
        )
        for model, saes in rows
    ]
    following = encode_time_cursor("models", [model for model, _ in rows], more)
    return Page(items=items, next_cursor=following)
