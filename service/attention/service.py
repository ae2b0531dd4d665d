"""The survey of an attention SAE, as long as it is of that SAE."""

from __future__ import annotations

import uuid

from sqlalchemy import select
from sqlalchemy.orm import Session

from monosemy.figures import ranges
from monosemy.specs.rest.attention import AttentionView, SurveyedFeature
from monosemy.workspace import Workspace
from service.attention.repository import attention_row, feature_row
from service.database.attention_tables import SaeAttention
from service.database.tables import Sae
from service.kit.errors import Conflict, InvalidRequest, NotFound
from service.saes.weights import has_other_weights

NO_SURVEY, OTHER_WEIGHTS = "no-attention-survey", "attention-of-other-weights"
OTHER_TEXT = "attention-of-other-text"
"""Codes of the ways in which there is none to show."""


def survey_of(session: Session, sae: Sae, workspace: Workspace) -> SaeAttention:
    """``Conflict`` where there is none, and where the SAE's weights or its
    indexed text are others by now."""
    row = attention_row(session, sae.id)
    advice = f"Submit a run of kind attention (monosemy heads {sae.name})."
    if row is None:
        raise _no_survey(sae.name)
    if has_other_weights(workspace, sae, row.summary["weights"], row.files):
        raise Conflict(
            f"The survey of the heads behind '{sae.name}' was made of other weights than it has "
            "now.",
            advice,
            code=OTHER_WEIGHTS,
            title="The survey is of other weights",
        )
    indexed = (sae.index or {}).get("text_id")
    if indexed != row.summary["text_id"]:
        raise Conflict(
            f"The survey of the heads behind '{sae.name}' went by an index over text "
            f"{row.summary['text_id']}; it has {'none' if indexed is None else 'another'} now.",
            advice,
            code=OTHER_TEXT,
            title="The survey is of another text",
        )
    return row


def _no_survey(name: str) -> Conflict:
    return Conflict(
        f"The heads behind '{name}' have not been surveyed.",
        f"Submit a run of kind attention (monosemy heads {name}).",
        code=NO_SURVEY,
        title="There is no survey of heads",
    )


def check_surveyed(session: Session, sae: uuid.UUID, head: int | None) -> None:
    """``Conflict`` where the SAE of this id has no survey to filter features by, and
    ``InvalidRequest`` for a head that it does not have."""
    row = attention_row(session, sae)
    if row is None:
        raise _no_survey(session.scalar(select(Sae.name).where(Sae.id == sae)) or str(sae))
    heads = [int(each["head"]) for each in row.summary["heads"]]
    if head is not None and head not in heads:
        raise InvalidRequest([("head", f"there are heads {ranges(sorted(heads))}, not {head}")])


def survey_view(sae: Sae, row: SaeAttention) -> AttentionView:
    return AttentionView(**row.summary, sae=sae.name, run_id=row.run_id, created_at=row.created_at)


def feature_view(session: Session, sae: Sae, index: int, workspace: Workspace) -> SurveyedFeature:
    """``NotFound`` for a feature that the survey does not have: it never fired."""
    survey_of(session, sae, workspace)
    row = feature_row(session, sae.id, index)
    if row is None:
        raise NotFound(
            f"The survey of '{sae.name}' has no feature {index}.",
            "It has those that fire in the indexed text.",
        )
    return SurveyedFeature.model_validate(row.found)
