"""GET /system/findings"""

from __future__ import annotations

from monosemy.specs.rest.system import Findings
from service.edge.context import ContextDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CanAdminister
from service.kit.errors import Busy
from service.kit.problems import documented

PATIENCE_SECONDS = 60.0

router = ApiRouter(prefix="/system", tags=["system"], dependencies=[CanAdminister])


@router.get("/findings", summary="Examine the deployment", responses=documented(503))
async def findings(context: ContextDep) -> Findings:
    """Part by part what the API finds, and what mends it, as `monosemy doctor` does from a shell:
    folders, database, Redis, inference server, judge, plugins. All who ask within ten seconds share
    one look."""
    try:
        return await context.findings.get(PATIENCE_SECONDS)
    except TimeoutError:
        raise Busy("The look at the parts has not ended yet.") from None
