"""The runs that are at work on a feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Select, and_, bindparam, select
from sqlalchemy.orm import Session

from monosemy.specs.run_states import ACTIVE
from service.database.judge_tables import WorkItem
from service.database.tables import Run, Sae

_ON_FEATURES = ("explain", "score")
_OPEN = ("todo", "leased")
_MOST = 100


def under_way_on(session: Session, sae: Sae, feature: int) -> list[Run]:
    """Runs not yet ended that explain or score the feature, the oldest first; of a run whose
    features are not planned yet what its spec names counts."""
    values = {"feature": feature, "names": [str(sae.id), sae.name]}
    return [
        run
        for run, state in session.execute(_under_way(), values).tuples()
        if state in _OPEN or (state is None and feature in _named_in(run.spec))
    ]


@cache
def _under_way() -> Select[Run, str | None]:
    """Made once, as each page of a feature asks."""
    item = and_(WorkItem.run_id == Run.id, WorkItem.feature == bindparam("feature"))
    return (
        select(Run, WorkItem.state)
        .outerjoin(WorkItem, item)
        .where(
            Run.state.in_(ACTIVE),
            Run.kind.in_(_ON_FEATURES),
            Run.spec["sae"].astext.in_(bindparam("names", expanding=True)),
        )
        .order_by(Run.created_at, Run.id)
        .limit(_MOST)
    )


def _named_in(spec: Mapping[str, Any]) -> Sequence[int]:
    """The features that the spec of an explain or score run names."""
    chosen = spec.get("features")
    if chosen is None and isinstance(spec.get("explanation"), Mapping):
        chosen = (spec["explanation"].get("features") or {}).get("indices")
    return chosen if isinstance(chosen, list) else []
