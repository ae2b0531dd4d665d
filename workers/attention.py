"""Surveying the heads behind an SAE of the database."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from monosemy.attribution.survey import survey_attention
from monosemy.errors import DataError
from monosemy.models.host import HostModel
from monosemy.sae_stamp import file_marks
from monosemy.specs import AttentionRun, ModelSpec
from monosemy.workspace import Workspace
from service.attention.repository import replace_attention
from service.database.tables import Sae
from workers.folders import folder_of
from workers.reporter import RunReporter
from workers.saes import opened_index


def survey_sae(
    workspace: Workspace,
    run_id: uuid.UUID,
    spec: AttentionRun,
    sae: Sae,
    load_host: Callable[[ModelSpec], HostModel],
    reporter: RunReporter,
) -> dict[str, Any]:
    """Executes an attention run.  ``DataError`` for an SAE without an index, or one whose host
    model or files are not those of its training."""
    reader, store = opened_index(workspace, sae)
    folder = folder_of(workspace, sae)
    host = load_host(folder.spec.model)
    folder.check(host)
    marks, digest = file_marks(folder.path), folder.digest
    survey = survey_attention(folder.hosted(host), reader, store, spec, digest, reporter)
    if file_marks(folder.path) != marks and folder.digest != digest:
        raise DataError("The files of the SAE changed during the run.", "Start it again.")
    reporter.commit(
        lambda session: replace_attention(
            session, sae.id, run_id, survey.summary, marks, survey.features
        )
    )
    return {"sae_id": str(sae.id), **survey.summary.model_dump(mode="json")}
