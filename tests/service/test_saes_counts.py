"""How many features of an SAE are explained and scored, by one rule however many there are."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from service.database.session import transaction
from service.database.tables import Sae, Score
from service.saes import counts
from tests.support.library_rows import add_explanation, add_library

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def saes(module_engine: Engine) -> list[Any]:
    """``a``: two explained, one of them by two scorers, one without a value; ``b``: nothing."""
    with transaction(module_engine) as session:
        a = add_library(session, "a", features=9)
        b = add_library(session, "b", features=4)
        add_explanation(session, a, 1, "one", "One.", 0.9)
        again = add_explanation(session, a, 1, "again", "One.", 0.8, key="l")
        unscored = add_explanation(session, a, 2, "two", "Two.")
        row = session.execute(select(Score).where(Score.explanation_id == again)).scalar_one()
        same = {c.key: getattr(row, c.key) for c in Score.__table__.columns if c.key != "id"}
        session.execute(insert(Score).values(same | {"scorer": "fuzzing", "key": "f"}))
        failed = {"explanation_id": unscored, "value": None, "low": None, "high": None}
        session.execute(insert(Score).values(same | failed))
        return [a.sae, b.sae]


def rows(session: Session, saes: list[Any]) -> list[Sae]:
    return [session.get_one(Sae, each) for each in saes]


def test_what_is_explained_and_scored(module_engine: Engine, saes: list[Any]) -> None:
    with Session(module_engine) as session:
        counted = counts.count_features(session, rows(session, saes))
        assert counts.count_features(session, []) == {}
    a, b = (counted[each].model_dump() for each in saes)
    scorers = {"detection": 1, "fuzzing": 1}
    assert a == {"indexed": 9, "explained": 2, "scored": 1, "scorers": scorers}
    assert list(a["scorers"]) == sorted(a["scorers"])
    assert b == {"indexed": 4, "explained": 0, "scored": 0, "scorers": {}}


def test_many_are_counted_once_in_a_while(
    module_engine: Engine, saes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    count = counts._count

    def noted(session: Session, of: Any) -> counts.Counts:
        made.append(len(of))
        return count(session, of)

    monkeypatch.setattr(counts, "_count", noted)
    monkeypatch.setattr(counts, "LARGE", -2)

    def ask(which: list[Any]) -> None:
        with Session(module_engine) as session:
            assert counts.count_features(session, rows(session, which)).keys() == set(which)

    crowd = [threading.Thread(target=ask, args=(saes,)) for _ in range(4)]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join()
    ask(list(reversed(saes)))
    assert made == [2], "all asked for the same"
    ask(saes[:1])
    assert made == [2, 1], "others are counted for themselves"
    monkeypatch.setattr(counts, "KEPT_SECONDS", 0.0)
    ask(saes)
    assert made == [2, 1, 2], "not for ever"
