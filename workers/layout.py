"""Laying out an SAE of the database: its decoder rows become a row of places."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Engine

from monosemy.analysis.layout import lay_out, require_package
from monosemy.errors import DataError
from monosemy.sae_stamp import file_marks
from monosemy.specs import LayoutRun
from monosemy.workspace import Workspace
from service.database.session import transaction
from service.database.tables import Sae
from service.layouts.repository import replace_layout, which_fire
from workers.folders import folder_of
from workers.reporter import RunReporter


def lay_out_sae(
    engine: Engine,
    workspace: Workspace,
    run_id: uuid.UUID,
    spec: LayoutRun,
    sae: Sae,
    reporter: RunReporter,
) -> dict[str, Any]:
    """Executes a layout run.  ``DataError`` where openTSNE is missing, before anything is read."""
    require_package()
    folder = folder_of(workspace, sae)
    folder.check()
    marks, digest = file_marks(folder.path), folder.digest
    fires = None
    if sae.index is not None:
        with transaction(engine) as session:
            fires = which_fire(session, sae.id, sae.d_sae)
    layout = lay_out(folder.sae.decoder_rows(slice(None)), spec, digest, fires, reporter)
    if file_marks(folder.path) != marks and folder.digest != digest:
        raise DataError("The files of the SAE changed during the run.", "Start it again.")
    reporter.commit(
        lambda session: replace_layout(
            session, sae.id, run_id, layout.summary, marks, layout.places
        )
    )
    return {"sae_id": str(sae.id), **layout.summary.model_dump(mode="json")}
