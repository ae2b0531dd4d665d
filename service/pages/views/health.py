"""/health: what does not work and what mends it, queues and workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from monosemy.specs.rest.queues import QueueView
from monosemy.specs.rest.system import Finding, Readiness
from service.edge.context import ContextDep, SessionDep
from service.pages.page import Nav, PageRouter
from service.pages.viewer import viewer_of
from service.queues import endpoints as queues
from service.system.endpoints import readiness

router = PageRouter()

PATIENCE_SECONDS = 3.0
"""A judge may take longer to answer; the page does not wait for it."""


async def _findings(request: Request, context: ContextDep) -> list[Finding] | None:
    """For administrators; None for others, and while the look goes on."""
    if not viewer_of(request).can("admin"):
        return None
    try:
        return await context.findings.get(PATIENCE_SECONDS)
    except TimeoutError:
        return None


@dataclass(frozen=True)
class Health:
    readiness: Readiness
    findings: list[Finding] | None
    queues: list[QueueView]


@router.page("/health", "health.html", nav=Nav("Health", 70), script="pages/health.js")
def health(
    session: SessionDep,
    readiness: Annotated[Readiness, Depends(readiness)],
    findings: Annotated[list[Finding] | None, Depends(_findings)],
) -> Health:
    return Health(readiness, findings, queues.list_all(session).items)
