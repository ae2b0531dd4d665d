"""Explained and scored features over the library of ``library_rows``; scores are summed up by the
library's own functions."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from monosemy.index.evidence import FeatureEvidence, TokenEffect, TokenShare, WordCount
from monosemy.interp.judge_test.result import RoleTest
from monosemy.interp.judging.usage import Usage
from monosemy.interp.scorers.balanced_accuracy import balanced_accuracy
from monosemy.interp.scorers.result import Judgement, ScoreResult
from monosemy.interp.tiers import ACTIVATING, RANDOM
from service.database.tables import Explanation, Feature, Sae, Score
from service.explanations.repository import score_columns
from tests.support.library_rows import ROW_LENGTH, ROWS, Library

GOOD, POOR, UNSCORED, FAILED, DEAD, PLAIN = 11, 12, 13, 14, 10, 16
"""Features: explained and told apart from shuffled, explained and not, explained and not scored,
with a score whose every judgement failed, never fired, not explained."""
EXPLANATION, SCORE = uuid.UUID(int=GOOD), uuid.UUID(int=GOOD + 1000)
"""Of the feature ``GOOD``."""
RAW = "raw"
"""An SAE that is not indexed."""


@dataclass(frozen=True)
class Scored:
    explanations: dict[int, uuid.UUID]
    scores: dict[int, uuid.UUID]


def add_scored(session: Session, library: Library) -> Scored:
    enrich(session, library, GOOD)
    explained = {
        feature: _explain(session, library, feature) for feature in (GOOD, POOR, UNSCORED, FAILED)
    }
    scores = {
        GOOD: _score(session, library, explained[GOOD], detection(right=19, of=20, failed=1), 0.5),
        POOR: _score(session, library, explained[POOR], detection(right=12, of=20), 0.6),
        FAILED: _score(
            session, library, explained[FAILED], detection(right=0, of=20, failed=20), None
        ),
    }
    sae = session.get_one(Sae, library.sae)
    session.add(
        Sae(
            name=RAW,
            model_id=sae.model_id,
            site=sae.site,
            architecture="topk",
            d_in=32,
            d_sae=8,
            path="saes/raw",
            config={"k": 4},
            metrics={"fvu": 0.5},
            provenance={},
            index=None,
        )
    )
    session.flush()
    return Scored(explained, scores)


def enrich(session: Session, library: Library, feature: int, **more: Any) -> None:
    """Gives a feature all that evidence may have."""
    row = session.get_one(Feature, (library.sae, feature))
    evidence = FeatureEvidence.from_dict(row.evidence)
    full = replace(
        evidence,
        histogram=[40 - i for i in range(40)],
        distinct_tokens=3,
        top_tokens=[
            TokenShare(2, " king", 0.7, 9, 0.5),
            TokenShare(5, " 世", 0.2, 3, 0.25),
        ],
        strongest_firings=16,
        strongest_words=[WordCount("king", 12), WordCount("queen", 4)],
        promoted=[TokenEffect(2, " king", 0.96), TokenEffect(8, "\n", 0.4)],
        suppressed=[TokenEffect(3, " queen", -0.88)],
        logit_std=0.17,
        **more,
    )
    row.evidence = full.as_dict()
    session.flush()


def detection(right: int, of: int, failed: int = 0) -> ScoreResult:
    """A detection of ``of`` texts, half of them activating: ``right`` answers are right, the last
    ``failed`` have none."""
    judgements = []
    for number in range(of):
        truth = number % 2 == 0
        row = number % ROWS
        answer = None if number >= of - failed else truth if number < right else not truth
        judgements.append(
            Judgement(
                row=row,
                position=row * ROW_LENGTH + 9,
                document=row // 2,
                tier=ACTIVATING if truth else RANDOM,
                group=number // 2 % 10 if truth else RANDOM,
                truth=truth,
                answer=answer,
            )
        )
    summary = balanced_accuracy(judgements, RANDOM)
    return ScoreResult(
        scorer="detection",
        metric=summary.metric,
        value=summary.value,
        low=summary.low,
        high=summary.high,
        n=of - failed,
        n_failed=failed,
        worst_case=summary.worst_case,
        details={
            **summary.details,
            "natural_precision": {"value": 0.026, "low": 0.0087, "high": 0.082, "density": 0.043},
            "judge": {"model": "judge-8b", "address": "http://judge.test/v1", "temperature": 0.0},
            "prompt": {"name": "detection", "version": 1, "hash": "1751a7134b4d5a74"},
            "parameters": {"radius": 16, "seed": 0},
        },
        usage=Usage(),
        judgements=tuple(judgements),
    ).with_judge_test(judge_test("detecting"))


def judge_test(role: Any) -> RoleTest:
    return RoleTest(role, 0.61, 0.49, 0.73, 80, 2, 0.5, -0.01)


def _explain(session: Session, library: Library, feature: int) -> uuid.UUID:
    index = session.get_one(Sae, library.sae).index or {}
    row = Explanation(
        id=uuid.UUID(int=feature),
        sae_id=library.sae,
        feature=feature,
        explainer="default",
        key=f"scored {feature}",
        text=f"It fires on names of kings, case {feature}.",
        label=f"kings {feature}",
        judge="judge-8b",
        provenance={
            "explainer": "default",
            "feature": feature,
            "judge": {"model": "judge-8b", "address": "http://judge.test/v1", "temperature": 0.0},
            "prompt": {"name": "explain_default", "version": 2, "hash": "5becc7c2baeb046d"},
            "examples": [
                {
                    "id": f"e{number}",
                    "row": (feature + number) % ROWS,
                    "position": (feature + number) % ROWS * ROW_LENGTH + (3 if not number else 1),
                    "group": "top",
                }
                for number in range(3)
            ],
            "parameters": {"radius": 12},
            "text_id": index.get("text_id"),
            "judge_test": {
                **vars(judge_test("explaining").brief()),
            },
        },
    )
    session.add(row)
    session.flush()
    return row.id


def _score(
    session: Session,
    library: Library,
    explanation: uuid.UUID,
    result: ScoreResult,
    shuffled: float | None,
) -> uuid.UUID:
    if shuffled is not None:
        result = result.with_baseline(detection(right=round(20 * shuffled), of=20))
    row = Score(
        id=uuid.UUID(int=explanation.int + 1000),
        sae_id=library.sae,
        explanation_id=explanation,
        key="scored",
        **score_columns(result),
    )
    session.add(row)
    session.flush()
    return row.id
