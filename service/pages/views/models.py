"""/models: the host models that SAEs were made from."""

from __future__ import annotations

from dataclasses import dataclass

from monosemy.specs.rest.models import ModelSummary
from service.edge.context import SessionDep
from service.kit.pagination import DEFAULT_LIMIT, CursorParam
from service.models.endpoints import list_host_models
from service.pages.navigation import Nav
from service.pages.page import PageRouter

router = PageRouter()


@dataclass(frozen=True)
class Models:
    models: list[ModelSummary]
    next_cursor: str | None


@router.page("/models", "models.html", nav=Nav("Models", 14, "m", below="SAEs"))
def models(session: SessionDep, cursor: CursorParam = None) -> Models:
    page = list_host_models(session, DEFAULT_LIMIT, cursor)
    return Models(page.items, page.next_cursor)
