"""The single judgements behind a score, with the texts that were judged."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from monosemy.interp.tiers import ACTIVATING
from monosemy.specs.rest.provenance import JudgedText, JudgedTexts, TextWindow
from monosemy.workspace import Workspace
from service.database.tables import Explanation, Sae, Score
from service.explanations.repository import score_of
from service.explanations.windows import RADIUS, Place, windows
from service.kit.errors import NotFound
from service.kit.pagination import Order, number_of, paged
from service.models.tokens import TokenTables

Outcome = Literal["right", "wrong", "failed"]

_MOST = 2**31
_WIDEST = 512


@dataclass(frozen=True)
class _Judged:
    """A stored judgement as far as it can be read."""

    number: int
    place: Place
    tier: str
    stratum: int | None
    truth: bool
    answer: bool | None
    value: float | None
    failed: bool

    @property
    def right(self) -> bool | None:
        return None if self.answer is None else self.answer == self.truth

    @property
    def outcome(self) -> Outcome | None:
        if self.failed:
            return "failed"
        return None if self.right is None else "right" if self.right else "wrong"


_BY_NUMBER: Order[_Judged, int] = Order((int,), lambda row: (row.number,), number_of(_MOST))


def require_score(session: Session, sae: Sae, feature: int, score: uuid.UUID) -> Score:
    """A score of the feature; 404 if there is none of this id."""
    query = (
        select(Score)
        .join(Explanation, score_of(Explanation))
        .where(Score.sae_id == sae.id, Score.id == score, Explanation.feature == feature)
    )
    found = session.scalars(query).first()
    if found is None:
        raise NotFound("score", score, "Its feature's page lists those there are.")
    return found


def judged_texts(
    session: Session,
    tables: TokenTables,
    workspace: Workspace,
    sae: Sae,
    feature: int,
    score: Score,
    outcome: Outcome | None,
    cursor: str | None,
    limit: int,
) -> JudgedTexts:
    """A page of them in the order in which they were judged; ``outcome``: only those."""
    every = [each for each in _judged(score.details) if outcome in (None, each.outcome)]

    def show(rows: Sequence[_Judged]) -> list[JudgedText]:
        places = [row.place for row in rows]
        radius = _radius(score.details)
        texts = windows(session, tables, workspace, sae, feature, places, radius)
        return [_shown(row, text) for row, text in zip(rows, texts, strict=True)]

    page = paged(
        ("judgements", str(score.id), outcome),
        _BY_NUMBER,
        cursor,
        limit,
        lambda after, most: [each for each in every if each.number > (after or 0)][:most],
        show,
    )
    return JudgedTexts(**dict(page), n=score.n, n_failed=score.n_failed)


def count_outcomes(details: Mapping[str, Any]) -> dict[Outcome, int]:
    """How many judgements came to what."""
    counts: dict[Outcome, int] = {"right": 0, "wrong": 0, "failed": 0}
    for each in _judged(details):
        if each.outcome is not None:
            counts[each.outcome] += 1
    return counts


def strata_in(details: Mapping[str, Any]) -> set[int]:
    """The strata of activation that the texts of a score are of."""
    return {each.stratum for each in _judged(details) if each.stratum is not None}


def _shown(row: _Judged, text: TextWindow) -> JudgedText:
    return JudgedText(
        number=row.number,
        text=text,
        tier=row.tier,
        stratum=row.stratum,
        truth=row.truth,
        answer=row.answer,
        value=row.value,
        right=row.right,
        failed=row.failed,
    )


def _judged(details: Mapping[str, Any]) -> list[_Judged]:
    """Of what some version, or another tool, stored: what is no judgement is left out."""
    stored = details.get("judgements")
    if not isinstance(stored, list):
        return []
    elsewhere = "imported" in details  # whose rows are mere numbers
    found = []
    for number, each in enumerate(stored, 1):
        if not isinstance(each, Mapping):
            continue
        row, position = _whole(each.get("row")), _whole(each.get("position"))
        row = None if elsewhere else row
        answer, value = each.get("answer"), each.get("value")
        tier = str(each.get("tier", ""))
        graded = isinstance(value, int | float) and not isinstance(value, bool)
        said = isinstance(answer, bool)
        found.append(
            _Judged(
                number=number,
                place=Place(
                    -1 if row is None else row,
                    -1 if position is None else position,
                    _whole(each.get("document")),
                ),
                tier=tier,
                stratum=_stratum(each.get("group")) if tier == ACTIVATING else None,
                truth=each.get("truth") is True,
                answer=answer if said else None,
                value=float(value) if graded else None,  # type: ignore[arg-type]
                failed=not said and not graded and each.get("simulated") is None,
            )
        )
    return found


def _radius(details: Mapping[str, Any]) -> int:
    parameters = details.get("parameters")
    radius = _whole(parameters.get("radius")) if isinstance(parameters, Mapping) else None
    return RADIUS if radius is None else min(radius, _WIDEST)


def _stratum(group: Any) -> int | None:
    if isinstance(group, str) and group.isdigit() and len(group) < 5:
        return int(group)
    return _whole(group)


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**62:
        return None
    return value
