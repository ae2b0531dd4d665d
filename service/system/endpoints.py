"""GET /healthz, /readyz, /metrics; also at the root, where orchestrators look for them."""

from __future__ import annotations

from fastapi import Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from monosemy.specs.rest.system import Health, Readiness
from service.edge.context import ContextDep
from service.edge.routing import Router, quiet
from service.keys.authorize import CanRead, ForAnybody
from service.kit.errors import RETRY_SECONDS
from service.kit.problems import documented
from service.system.checks import PATIENCE_SECONDS, unanswered
from service.version import version

router = Router(tags=["system"])


# Neither thread nor database: it answers however much else is under way.
@router.get("/healthz", summary="Is the process alive?", dependencies=[ForAnybody])
@quiet
async def healthz() -> Health:
    """Asks nobody else: a restart would not mend another part."""
    return Health(status="ok", version=version())


@router.get(
    "/readyz",
    summary="Can requests be served?",
    dependencies=[ForAnybody],
    responses={503: {"model": Readiness, "description": "A part does not answer."}},
)
@quiet
async def readyz(context: ContextDep, response: Response) -> Readiness:
    """Database at the newest revision, Redis and inference server answering, as found within the
    last second: all who ask meanwhile share one look."""
    found = await readiness(context)
    if found.status != "ready":
        response.status_code = 503
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return found


async def readiness(context: ContextDep) -> Readiness:
    """What the parts answer, or that they have not within ``PATIENCE_SECONDS``."""
    try:
        checks = await context.readiness.get(PATIENCE_SECONDS)
    except TimeoutError:
        checks = unanswered(PATIENCE_SECONDS)
    ready = all(check.status == "ok" for check in checks.values())
    return Readiness(status="ready" if ready else "not ready", checks=checks)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=PlainTextResponse,
    dependencies=[CanRead],
    responses=documented(401, 403),
)
@quiet
async def metrics(context: ContextDep) -> Response:
    """Requests and latency of this process; runs by state and queue, age of the oldest queued run,
    SAEs, features, explanations, scores in the database."""
    return Response(await context.metrics.get(), media_type=CONTENT_TYPE_LATEST)
