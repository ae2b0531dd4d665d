"""/settings/audit: what was changed, and by whom."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from service.audit.endpoints import list_all
from service.edge.context import SessionDep
from service.keys.authorize import CanAdminister
from service.kit.pagination import DEFAULT_LIMIT, CursorParam
from service.pages.audit_words import Deed, deeds_of
from service.pages.page import PageRouter

router = PageRouter(CanAdminister)


@dataclass(frozen=True)
class Audit:
    deeds: list[Deed]
    next_cursor: str | None
    key: uuid.UUID | None


@router.page("/settings/audit", "audit.html")
def audit(session: SessionDep, key: uuid.UUID | None = None, cursor: CursorParam = None) -> Audit:
    page = list_all(session, key, DEFAULT_LIMIT, cursor)
    return Audit(deeds_of(page.items), page.next_cursor, key)
