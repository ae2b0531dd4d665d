"""A form that pauses a queue or lets it go on; it leads back to /health."""

from __future__ import annotations

from typing import Annotated

from fastapi import BackgroundTasks, Form, Request
from starlette.responses import Response

from monosemy.specs.rest.queues import QueueChange, QueueName
from service.edge.context import ContextDep, SessionDep
from service.keys.authorize import CanAdminister
from service.pages.page import PageRouter, go_to
from service.queues import endpoints as rest

router = PageRouter(CanAdminister)


@router.page("/queues/{name}", "health.html", method="POST")
def change(
    session: SessionDep,
    context: ContextDep,
    background: BackgroundTasks,
    request: Request,
    name: QueueName,
    paused: Annotated[bool, Form()],
) -> Response:
    rest.change(session, context, background, name, QueueChange(paused=paused))
    return go_to(request, "/health")
