"""GET /models"""

from __future__ import annotations

from functools import partial

from monosemy.specs.rest.models import ModelSummary
from monosemy.specs.rest.page import Page
from service.database.tables import Model
from service.edge.context import SessionDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CanRead
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
from service.models.repository import list_models

router = ApiRouter(prefix="/models", tags=["models"], dependencies=[CanRead])


@router.get("", summary="List host models", responses=documented(422))
def list_host_models(
    session: SessionDep, limit: Limit = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[ModelSummary]:
    """The language models that SAEs were trained on, newest first."""
    order: Order[tuple[Model, int], TimeKey] = by_time(lambda row: row[0])
    return paged("models", order, cursor, limit, partial(list_models, session), each(_summary))


def _summary(row: tuple[Model, int]) -> ModelSummary:
    model, saes = row
    return ModelSummary(
        id=model.id,
        name=model.name,
        spec=model.spec,
        info=model.info,
        created_at=model.created_at,
        saes=saes,
    )
