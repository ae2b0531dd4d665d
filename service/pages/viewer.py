"""Who looks at a page, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from service.edge.context import AppContext
from service.keys.service import SCOPES, allows
from service.sessions.service import CurrentSession, is_read_only


@dataclass(frozen=True)
class Viewer:
    """Nobody known, the bearer of a key, a session, or in open mode whoever is at this machine."""

    open_mode: bool
    """Nobody is asked for a key: this machine only."""
    scopes: tuple[str, ...]
    """Of the key, or what both session and key allow; none for nobody known."""
    csrf: str | None = None
    """Goes with forms and calls that change something; None where no session is."""
    key_name: str | None = None
    key_scopes: tuple[str, ...] = ()
    """Of the key itself, whatever its session may."""

    @property
    def read_only(self) -> bool:
        """Whether there is nothing that goes beyond reading."""
        return is_read_only(self.scopes)

    def can(self, scope: str) -> bool:
        return allows(self.scopes, scope)

    def without(self, scope: str) -> str:
        """Why ``scope`` is lacking, for who may look but not do, and what gives it."""
        if allows(self.key_scopes, scope):
            return f"This session lacks the scope '{scope}', which your key has: log in again."
        return f"Your key lacks the scope '{scope}'."


def viewer_of(request: Request) -> Viewer:
    """Of a request that was admitted; one that was not may do nothing."""
    context: AppContext = request.app.state.context
    if not context.settings.require_keys:
        return Viewer(True, SCOPES)
    state = request.state
    current: CurrentSession | None = getattr(state, "session", None)
    return Viewer(
        open_mode=False,
        scopes=tuple(getattr(state, "key_scopes", None) or ()),
        csrf=None if current is None else current.csrf,
        key_name=getattr(state, "key_name", None),
        key_scopes=tuple(getattr(state, "own_scopes", None) or ()),
    )
