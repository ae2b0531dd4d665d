"""GET /saes/{id}/layout"""

from __future__ import annotations

from monosemy.specs.rest.layouts import LayoutView
from monosemy.workspace import Workspace
from service.edge.context import ContextDep, SessionDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CanRead
from service.kit.problems import documented
from service.layouts.service import layout_of, layout_view
from service.saes.endpoints import SaeReference
from service.saes.repository import find_sae

router = ApiRouter(prefix="/saes/{sae}", tags=["saes"], dependencies=[CanRead])


@router.get("/layout", summary="Show the layout of an SAE", responses=documented(404, 409, 422))
def show(context: ContextDep, session: SessionDep, sae: SaeReference) -> LayoutView:
    """How its decoder rows were laid out in two dimensions, and which share of their nearest
    neighbours that keeps, beside principal components and chance. A run of kind `layout` makes it;
    the coordinates are the columns `layout_x` and `layout_y`. 409 where there is none, and where
    the SAE's weights have changed since."""
    row, _ = find_sae(session, sae)
    return layout_view(row, layout_of(session, row, Workspace(context.settings.artifacts)))
