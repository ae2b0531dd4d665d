"""The layout of an SAE, as long as it is of that SAE."""

from __future__ import annotations

from sqlalchemy.orm import Session

from monosemy.specs.rest.layouts import LayoutView
from monosemy.workspace import Workspace
from service.database.layout_tables import SaeLayout
from service.database.tables import Sae
from service.kit.errors import Conflict
from service.layouts.repository import layout_row
from service.saes.weights import has_other_weights

NO_LAYOUT, OTHER_WEIGHTS = "no-layout", "layout-of-other-weights"
"""Codes of the two ways in which there is none to show."""


def layout_of(session: Session, sae: Sae, workspace: Workspace) -> SaeLayout:
    """``Conflict`` where there is none, and where the SAE's weights are others by now."""
    row = layout_row(session, sae.id)
    advice = f"Submit a run of kind layout (monosemy layout {sae.name})."
    if row is None:
        raise Conflict(
            f"'{sae.name}' has no layout yet.", advice, code=NO_LAYOUT, title="There is no layout"
        )
    if has_other_weights(workspace, sae, row.summary["weights"], row.files):
        raise Conflict(
            f"The layout of '{sae.name}' was made of other weights than it has now.",
            advice,
            code=OTHER_WEIGHTS,
            title="The layout is of other weights",
        )
    return row


def layout_view(sae: Sae, row: SaeLayout) -> LayoutView:
    return LayoutView(**row.summary, sae=sae.name, run_id=row.run_id, created_at=row.created_at)
