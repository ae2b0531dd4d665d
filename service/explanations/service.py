"""Explanations as views, and those that people give."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy.orm import Session

from monosemy.specs.rest.explanations import ExplanationView
from monosemy.specs.rest.features import ExplanationBrief, ScoreDetail, Votes
from monosemy.workspace import fingerprint
from service.database.storable import storable_text
from service.database.tables import Explanation, Sae
from service.explanations import repository
from service.features.repository import find_feature
from service.features.service import no_such_feature
from service.keys.authorize import Caller
from service.keys.ownership import check_owner
from service.kit.errors import NotFound
from service.saes.repository import no_such_sae

HUMAN = "human"


def require_feature(session: Session, reference: str, index: int) -> Sae:
    """The SAE of an indexed feature; 404 if there is none."""
    place = find_feature(session, reference, index)
    if place is None:
        raise no_such_sae(reference)
    if place.feature is None:
        raise no_such_feature(place.sae, index)
    return place.sae


def require_explanation(
    session: Session, explanation: uuid.UUID, lock: bool = False
) -> Explanation:
    """404 if there is none."""
    row = repository.explanation_of_id(session, explanation, lock)
    if row is None:
        raise no_such_explanation(explanation)
    return row


def delete_explanation(session: Session, explanation: uuid.UUID, caller: Caller) -> None:
    """With its scores and votes; 404 if there is none, 403 if it belongs to somebody else."""
    row = require_explanation(session, explanation, lock=True)
    check_owner(caller, row.created_by, "the explanation")
    session.delete(row)


def no_such_explanation(explanation: uuid.UUID) -> NotFound:
    return NotFound("explanation", explanation, "Its feature's page lists those there are.")


def explanation_views(
    session: Session, voter: str, rows: Sequence[Explanation]
) -> list[ExplanationView]:
    """In the order of ``rows``, with what ``voter`` said of each; two statements for all of
    them."""
    scores = repository.scores_by_explanation(session, rows)
    votes = repository.votes_by_explanation(session, rows, voter)
    views = []
    for row in rows:
        up, down, mine = votes.get(row.id, (0, 0, 0))
        views.append(
            ExplanationView(
                **dict(ExplanationBrief.model_validate(row)),
                run_id=row.run_id,
                provenance=row.provenance,
                created_at=row.created_at,
                scores=[ScoreDetail.model_validate(score) for score in scores[row.id]],
                sae_id=row.sae_id,
                feature=row.feature,
                votes=Votes(up=up, down=down, mine=mine),
            )
        )
    return views


def store_human(
    session: Session,
    sae_id: uuid.UUID,
    feature: int,
    label: str,
    text: str,
    key: uuid.UUID | None,
    embedding: Sequence[float] | None,
) -> Explanation:
    """Stores what a person says of a feature; the same said again is the same explanation."""
    return repository.add_human(
        session,
        sae_id=sae_id,
        feature=feature,
        run_id=None,
        explainer=HUMAN,
        key=fingerprint({"explainer": HUMAN, "label": label, "text": text}),
        label=storable_text(label),
        text=storable_text(text),
        judge="",
        provenance={"explainer": HUMAN, "api_key": str(key) if key else None},
        created_by=key,
        embedding=embedding,
    )
