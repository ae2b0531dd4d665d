"""Who looks at a page, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from service.edge.context import AppContext
from service.keys.service import SCOPES, allows


@dataclass(frozen=True)
class Viewer:
    open_mode: bool
    """Nobody is asked for a key: this machine only."""
    scopes: tuple[str, ...]
    csrf: str | None = None
    """Goes with forms and calls that change something; None where no session is."""
    key_name: str | None = None

    def can(self, scope: str) -> bool:
        return allows(self.scopes, scope)


def viewer_of(request: Request) -> Viewer:
    """Of a request that was admitted; one that was not may do nothing."""
    context: AppContext = request.app.state.context
    if not context.settings.require_keys:
        return Viewer(True, SCOPES)
    return Viewer(False, tuple(getattr(request.state, "key_scopes", None) or ()))
