"""Scores that another tool came to: its judgements are kept, and summed up as ours are."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from monosemy.interp.scorers.balanced_accuracy import balanced_accuracy
from monosemy.interp.scorers.base import listed_as
from monosemy.interp.scorers.result import Judgement, ScoreResult
from monosemy.interp.tiers import ACTIVATING, MIS_MARKED, RANDOM
from monosemy.specs.rest.explanations import GivenScore
from monosemy.workspace import fingerprint
from service.database.tables import Explanation, Score
from service.explanations.repository import score_columns, score_of

_TIER = {"detection": RANDOM, "fuzzing": MIS_MARKED}
"""What the texts that do not activate are, or are marked as."""


def store_given_score(session: Session, explanation: Explanation, given_score: GivenScore) -> Score:
    """The score stored, or the equal one that was there."""
    result = _summed_up(given_score)
    key = fingerprint({"given": given_score.model_dump(mode="json")})
    values = {
        "sae_id": explanation.sae_id,
        "explanation_id": explanation.id,
        "key": key,
        **score_columns(result),
    }
    session.execute(
        insert(Score).values(**values).on_conflict_do_nothing(constraint="uq_scores_key")
    )
    return session.scalars(select(Score).where(score_of(explanation), Score.key == key)).one()


def _summed_up(given_score: GivenScore) -> ScoreResult:
    tier = _TIER[given_score.scorer]
    judgements = tuple(
        Judgement(
            row=number,
            position=0,
            document=number,  # nobody says which texts share one
            tier=ACTIVATING if each.activating else tier,
            group=each.stratum if each.activating and each.stratum is not None else tier,
            truth=each.activating,
            answer=each.answer,
        )
        for number, each in enumerate(given_score.judgements)
    )
    summary = balanced_accuracy(judgements, tier)
    summary = replace(
        summary, details={**summary.details, "imported": {"source": given_score.source}}
    )
    return listed_as(f"{given_score.scorer}:{given_score.source}", summary, judgements)
