"""Agreement of every two raters, from their single answers."""

from __future__ import annotations

import uuid
from collections.abc import Hashable
from itertools import combinations

from sqlalchemy.orm import Session

from monosemy.interp.statistics.kappa import cohen_kappa
from monosemy.specs.rest.agreement import (
    MOST_RATERS,
    Agreement,
    AgreementOf,
    AgreementPair,
    Rater,
)
from service.agreement import repository

Answers = dict[tuple[bool, str], dict[Hashable, bool]]
"""By rater (whether a judge, name): its answer to each thing."""


def agreement(
    session: Session, of: AgreementOf, sae_id: uuid.UUID | None, list_id: uuid.UUID | None
) -> Agreement:
    read = _votes if of == "votes" else _sittings
    answers = read(session, sae_id, list_id)
    ranked = sorted(answers, key=lambda rater: (-len(answers[rater]), rater))
    raters = {
        (judge, name): Rater(name=name, judge=judge, items=len(answers[judge, name]))
        for judge, name in ranked[:MOST_RATERS]
    }
    pairs = [
        _pair(raters[first], raters[second], answers[first], answers[second])
        for first, second in combinations(raters, 2)
        if not (first[0] and second[0]) and answers[first].keys() & answers[second].keys()
    ]
    pairs.sort(key=lambda pair: -pair.n)
    left_out = len(ranked) - len(raters)
    return Agreement(of=of, raters=list(raters.values()), pairs=pairs, left_out=left_out)


def _pair(
    first: Rater, second: Rater, one: dict[Hashable, bool], other: dict[Hashable, bool]
) -> AgreementPair:
    found = cohen_kappa([(one[thing], other[thing]) for thing in one if thing in other])
    return AgreementPair(
        first=first,
        second=second,
        n=found.n,
        both_yes=found.both_yes,
        first_only=found.first_only,
        second_only=found.second_only,
        neither=found.neither,
        observed=found.observed,
        kappa=found.value,
        low=found.low,
        high=found.high,
    )


def _votes(session: Session, sae_id: uuid.UUID | None, list_id: uuid.UUID | None) -> Answers:
    answers: Answers = {}
    for voter, explanation, value in repository.votes(session, sae_id, list_id):
        answers.setdefault((False, voter), {})[explanation] = value
    return answers


def _sittings(session: Session, sae_id: uuid.UUID | None, list_id: uuid.UUID | None) -> Answers:
    """Of people who have ended theirs, and of the judges whose very texts they were given."""
    answers: Answers = {}
    judged: set[uuid.UUID] = set()
    for sitting in repository.ended_sittings(session, sae_id, list_id):
        own = answers.setdefault((False, sitting.taker), {})
        for number, each in enumerate(sitting.questions):
            answer = sitting.answers.get(str(number))
            if answer is not None:
                own[_text(sitting.explanation_id, each)] = answer
        if sitting.parameters.get("like"):
            judged.add(uuid.UUID(sitting.parameters["like"]))
    for score in repository.scores_of_judges(session, sorted(judged)):
        for each in score.details.get("judgements", ()):
            if each.get("answer") is not None:
                by_judge = answers.setdefault((True, score.judge), {})
                by_judge[_text(score.explanation_id, each)] = bool(each["answer"])
    return answers


def _text(explanation: uuid.UUID, judgement: dict[str, object]) -> Hashable:
    return explanation, judgement.get("tier"), judgement.get("row"), judgement.get("position")
