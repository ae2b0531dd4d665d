"""Every pair of states: the changes that the table allows are made, all others refused."""

from __future__ import annotations

from itertools import product

import pytest
from sqlalchemy import Engine

from monosemy.errors import ConflictError
from service.database.session import transaction
from service.database.tables import Run
from service.runs import lifecycle
from tests.support import run_acts as acts

pytestmark = pytest.mark.integration

MOVES = {
    ("queued", "running"),
    ("queued", "cancelled"),
    ("queued", "failed"),
    ("running", "running"),
    ("running", "queued"),
    ("running", "cancelling"),
    ("running", "cancelled"),
    ("running", "succeeded"),
    ("running", "failed"),
    ("cancelling", "cancelled"),
    ("cancelling", "succeeded"),
    ("cancelling", "failed"),
    ("failed", "queued"),
    ("cancelled", "queued"),
}
STATES = sorted({state for move in MOVES for state in move})


@pytest.mark.parametrize(("before", "after"), list(product(STATES, STATES)))
def test_a_change_of_state(engine: Engine, before: str, after: str) -> None:
    run = acts.submit(engine, {"kind": "train"})
    acts.change(engine, run, f"state = '{before}'")
    with transaction(engine) as session:
        row = session.get_one(Run, run)
        if (before, after) in MOVES:
            lifecycle._move(session, row, after, reason="test")
        else:
            with pytest.raises(ConflictError, match=f"{before} cannot become {after}"):
                lifecycle._move(session, row, after)
    allowed = (before, after) in MOVES
    assert acts.load(engine, run).state == (after if allowed else before)
    events = acts.events(engine, run, "state")[1:]
    wanted = {"state": after, "from": before, "kind": "train", "reason": "test"}
    assert events == ([wanted] if allowed else [])
