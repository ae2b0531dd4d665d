"""Sittings begun, answered and summed up."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from monosemy.errors import DataError
from monosemy.interp.scorers.result import Judgement
from monosemy.interp.tiers import ACTIVATING, RANDOM
from monosemy.specs.rest.explanations import ExplanationView
from monosemy.specs.rest.features import ScoreDetail
from monosemy.specs.rest.sittings import (
    NewSitting,
    SittingAnswer,
    SittingProgress,
    SittingText,
    SittingView,
)
from monosemy.workspace import Workspace, fingerprint
from service.database.labelling_tables import Sitting
from service.database.storable import storable
from service.database.tables import Explanation, Sae, Score
from service.explanations.repository import explanation_of_id, score_columns
from service.explanations.service import require_explanation
from service.exports.activations import open_index
from service.keys.authorize import Caller
from service.keys.ownership import check_owner
from service.kit.errors import Conflict, InvalidRequest, NotFound
from service.sittings import repository

if TYPE_CHECKING:
    from monosemy.interp.sitting import Sitting as Prepared

_Named = tuple[Any, Any, Any]
"""Tier, row and position: which text it is."""
JUDGED = "detection"
"""The scorer whose test it is."""
SCORER = "detection:human"
"""What its scores are listed under, apart from judges'."""
_DRAWN_APART = 1000
"""First seed of texts that no judge's score asked for."""


def require_sitting(session: Session, id_: uuid.UUID, lock: bool = False) -> Sitting:
    """404 if there is none."""
    row = repository.find_sitting(session, id_, lock)
    if row is None:
        raise NotFound("sitting", id_, "POST .../explanations/{id}/sittings begins one.")
    return row


def begin_sitting(
    session: Session, workspace: Workspace, explanation_id: uuid.UUID, body: NewSitting, taker: str
) -> tuple[Sitting, bool]:
    """The sitting, and whether it is new: one that ``taker`` has open goes on.

    409 for a feature with too few texts, and for texts whose truth ``taker`` has been told; 404
    where the index is not at hand.
    """
    from monosemy.interp.sitting import prepare_sitting
    from monosemy.interp.texts import FeatureTexts

    explanation = require_explanation(session, explanation_id)
    begun = repository.open_sitting(session, explanation, taker)
    if begun is not None:
        return begun, False
    sae = session.get_one(Sae, explanation.sae_id)
    taken = repository.parameters_taken(session, sae.id, explanation.feature, taker)
    like = _score_to_repeat(session, explanation, body.like)
    wanted = _numbers_of(like) if like else _numbers_drawn(body, taken)
    if any(wanted.items() <= each.items() for each in taken):
        raise Conflict(
            "You have judged these very texts before, and were told in which of them it fires.",
            code="texts-known",
            title="These texts are known to you",
        )
    index = open_index(workspace, sae)
    try:
        prepared = prepare_sitting(
            FeatureTexts(index.reader, index.store), explanation.feature, **wanted
        )
    except DataError as error:
        raise Conflict(
            str(error), code="too-few-texts", title="There are too few texts for a test"
        ) from None
    if like is not None:
        _check_same(like, prepared)
    identity = repository.add_sitting(
        session,
        sae_id=sae.id,
        explanation_id=explanation.id,
        feature=explanation.feature,
        taker=taker,
        parameters={
            **wanted,
            "text_id": index.store.text_id,
            "like": str(like.id) if like else None,
        },
        questions=storable(
            [{"text": each.text, **each.judgement.as_dict()} for each in prepared.questions]
        ),
        context_density=prepared.context_density,
    )
    if identity is None:  # another request of the same taker was faster
        begun = repository.open_sitting(session, explanation, taker)
        assert begun is not None
        return begun, False
    return require_sitting(session, identity), True


def _score_to_repeat(
    session: Session, explanation: Explanation, wanted: uuid.UUID | None
) -> Score | None:
    if wanted is None:
        return None
    score = repository.find_score(session, explanation, wanted)
    if score is None or not _names_texts(score):
        raise InvalidRequest([("like", "this is no detection score of the explanation")])
    return score


def repeatable(explanation: ExplanationView) -> list[uuid.UUID]:
    """Its detection scores whose texts may be had again."""
    return [each.id for each in explanation.scores if _names_texts(each)]


def _names_texts(score: Score | ScoreDetail) -> bool:
    return score.scorer == JUDGED and "judgements" in dict(score.details)


def _numbers_of(score: Score) -> dict[str, int]:
    """How the texts of a judge's score were drawn."""
    tiers = [str(each.get("tier")) for each in score.details["judgements"]]
    parameters = score.details.get("parameters") or {}
    return {
        "positives": max(2, tiers.count(ACTIVATING)),
        "negatives": max(2, tiers.count(RANDOM)),
        "seed": int(parameters.get("seed", 0)),
    }


def _numbers_drawn(body: NewSitting, taken: Sequence[dict[str, Any]]) -> dict[str, int]:
    drawn = sum(each.get("like") is None for each in taken)
    return {
        "positives": body.positives,
        "negatives": body.negatives,
        "seed": _DRAWN_APART + drawn,
    }


def _check_same(score: Score, prepared: Prepared) -> None:
    """409 unless these are the texts that the judge was shown."""
    judged = {
        _named(each)
        for each in score.details["judgements"]
        if each.get("tier") in (ACTIVATING, RANDOM)
    }
    asked = {
        (each.judgement.tier, each.judgement.row, each.judgement.position)
        for each in prepared.questions
    }
    if judged != asked:
        raise Conflict(
            "The texts of this score cannot be had again: the SAE was indexed anew since, or not"
            " all of them were judged.",
            code="texts-gone",
            title="Its texts are gone",
        )


def sitting_view(session: Session, row: Sitting) -> SittingView:
    """The truth is not in it until the sitting has ended."""
    explanation = explanation_of_id(session, row.explanation_id)
    assert explanation is not None  # the sitting goes with it
    ended = row.score_id is not None
    judged = _judged(session, explanation, row) if ended else {}
    texts = [
        SittingText(
            number=number,
            text=each["text"],
            answered=str(number) in row.answers,
            answer=row.answers.get(str(number)),
            truth=each["truth"] if ended else None,
            stratum=each["group"] if ended and each["truth"] else None,
            judged=judged.get(_named(each)),
        )
        for number, each in enumerate(row.questions)
    ]
    return SittingView(
        **{
            name: getattr(row, name)
            for name in (
                "id",
                "explanation_id",
                "sae_id",
                "feature",
                "taker",
                "score_id",
                "created_at",
            )
        },
        explanation=explanation.text,
        texts=texts,
        answered=len(row.answers),
        like=row.parameters.get("like"),
    )


def _judged(session: Session, explanation: Explanation, row: Sitting) -> dict[_Named, bool | None]:
    """What the judge said whose texts they are."""
    like = row.parameters.get("like")
    score = repository.find_score(session, explanation, uuid.UUID(like)) if like else None
    judgements = score.details.get("judgements", ()) if score is not None else ()
    return {_named(each): each.get("answer") for each in judgements}


def _named(judgement: dict[str, Any]) -> _Named:
    return judgement.get("tier"), judgement.get("row"), judgement.get("position")


def lock_open(session: Session, id_: uuid.UUID, caller: Caller) -> Sitting:
    """The sitting, for its taker to go on with; 403 if it is another's, 409 if it has ended."""
    row = require_sitting(session, id_, lock=True)
    check_owner(caller, row.taker, "the sitting")
    if row.score_id is not None:
        raise Conflict(
            "Its answers have been summed up; begin another.",
            code="sitting-ended",
            title="The sitting has ended",
        )
    return row


def set_answer(
    session: Session, row: Sitting, number: int, body: SittingAnswer | None
) -> SittingProgress:
    """None takes the answer back."""
    if number >= len(row.questions):
        raise NotFound("text", number, f"The sitting has texts 0 to {len(row.questions) - 1}.")
    answers = {key: value for key, value in row.answers.items() if key != str(number)}
    if body is not None:
        answers[str(number)] = body.answer
    repository.set_columns(session, row, answers=answers)
    return SittingProgress(number=number, answered=len(answers), total=len(row.questions))


def end_sitting(session: Session, id_: uuid.UUID, caller: Caller) -> Score:
    """The score of its answers; one that has ended keeps its score.  409 without any answer."""
    from monosemy.interp.sitting import sitting_score

    row = require_sitting(session, id_, lock=True)
    check_owner(caller, row.taker, "the sitting")
    explanation = require_explanation(session, row.explanation_id)
    if row.score_id is not None:
        score = repository.find_score(session, explanation, row.score_id)
        assert score is not None
        return score
    if not any(answer is not None for answer in row.answers.values()):
        raise Conflict(
            "Not one text is answered.", code="nothing-answered", title="There is nothing to sum up"
        )
    result = sitting_score(SCORER, judgements_of(row), row.context_density)
    person = {
        "source": "human",
        "sitting": str(row.id),
        "taker": row.taker,
        "like": row.parameters.get("like"),
    }
    result = replace(result, details={**result.details, "imported": person})
    values = {
        "sae_id": row.sae_id,
        "explanation_id": row.explanation_id,
        "key": fingerprint({"sitting": str(row.id)}),
        **score_columns(result),
    }
    score_id = session.execute(insert(Score).values(**values).returning(Score.id)).scalar_one()
    repository.set_columns(session, row, score_id=score_id)
    return session.scalars(select(Score).where(Score.id == score_id)).one()


def judgements_of(row: Sitting) -> list[Judgement]:
    """What was said of each text, as the library sums it up."""
    return [
        Judgement(
            **{
                name: each[name]
                for name in ("row", "position", "document", "tier", "group", "truth")
            },
            answer=row.answers.get(str(number)),
        )
        for number, each in enumerate(row.questions)
    ]
