"""What heads features, read with them in one statement; the rule is ``monosemy.interp.heading``."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import aliased
from sqlalchemy.sql.selectable import LateralFromClause

from monosemy.interp.heading import Candidate, Heading, heading, margin
from service.database.tables import Explanation, Score
from service.explanations.repository import score_of

_PREFIX = "heading_"
_OF_SCORE = ("scorer", "value", "low", "high", "baseline")
# Of their own, lest they are taken for those of the statement around.  Made once: an alias copies
# every column of its table.
_explanation, _score = aliased(Explanation), aliased(Score)


def leading_of(sae_id: Any, feature: Any) -> LateralFromClause:
    """Lateral join to the explanation that leads, with its score; its columns are all to be
    selected, for ``heading_in``."""
    figures = [getattr(_score, name).label(f"{_PREFIX}{name}") for name in _OF_SCORE]
    return (
        select(_explanation.label.label(f"{_PREFIX}explanation"), *figures)
        .select_from(_explanation)
        .outerjoin(_score, score_of(_explanation, _score))
        .where(_explanation.sae_id == sae_id, _explanation.feature == feature)
        .order_by(
            margin(_score.low, _score.baseline).desc().nulls_last(),
            _explanation.created_at.desc(),
            _explanation.id,
            _score.id,
        )
        .limit(1)
        .lateral("leading")
    )


def heading_in(row: Any, evidence_label: str) -> Heading:
    """The heading out of a row with the columns of ``leading_of``."""
    names = ("explanation", *_OF_SCORE)
    values = {name: getattr(row, f"{_PREFIX}{name}") for name in names}
    known = values["explanation"] is not None
    return heading(evidence_label, Candidate(**values) if known else None)
