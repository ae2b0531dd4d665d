"""/health: what does not work and what mends it, queues and workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from monosemy.specs.rest.queues import QueueView
from monosemy.specs.rest.system import Findings, Readiness
from service.edge.context import ContextDep, SessionDep
from service.pages.navigation import Nav
from service.pages.page import PageRouter
from service.pages.verdict import Verdict, findings_for, verdict
from service.pages.viewer import viewer_of
from service.queues import endpoints as queues
from service.system.endpoints import readiness

router = PageRouter()

PATIENCE_SECONDS = 3.0
"""A judge may take longer to answer; the page does not wait for it."""


async def _findings(request: Request, context: ContextDep) -> Findings | None:
    return await findings_for(request, context, PATIENCE_SECONDS)


@dataclass(frozen=True)
class Health:
    readiness: Readiness
    verdict: Verdict
    findings: Findings | None
    """None for those who are not told, and while the look goes on."""
    queues: list[QueueView]


@router.page(
    "/health",
    "health.html",
    nav=Nav("Health", 70, also=("/settings/audit",), below="Runs"),
    script="pages/health.js",
)
def health(
    request: Request,
    session: SessionDep,
    readiness: Annotated[Readiness, Depends(readiness)],
    findings: Annotated[Findings | None, Depends(_findings)],
) -> Health:
    looking = viewer_of(request).can("admin")
    return Health(
        readiness, verdict(readiness, findings, looking), findings, queues.list_all(session).items
    )
