"""What heads a feature: an explanation that clears its shuffled baseline, else the evidence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monosemy.interp.heading import Candidate, heading, leading

UNIT = st.floats(0, 1)
KNOWN = st.builds(Candidate, st.just("kings"), st.just("detection"), UNIT, UNIT, UNIT, UNIT)
UNKNOWN = st.builds(Candidate, st.just("queens"))


@given(st.lists(st.one_of(KNOWN, UNKNOWN), max_size=6))
def test_an_explanation_heads_only_where_an_interval_clears_its_baseline(
    candidates: list[Candidate],
) -> None:
    result = heading("token x", leading(candidates))
    cleared = [c for c in candidates if c.low is not None and c.low > c.baseline]  # type: ignore[operator]
    assert result.source == ("explanation" if cleared else "evidence")
    assert result.text == ("kings" if cleared else "token x")


def test_why() -> None:
    none = heading("token x", None)
    assert (none.text, none.source, none.why) == ("token x", "evidence", "It has no explanation.")
    unscored = heading("token x", Candidate("kings"))
    assert unscored.source == "evidence" and "has a score beside" in unscored.why
    # An interval that only touches its baseline does not clear it.
    below = heading("token x", Candidate("kings", "embedding", 0.58, 0.47, 0.7, 0.47))
    assert below.source == "evidence"
    assert "embedding 0.58 (95 % 0.47 to 0.70; another feature's explanation: 0.47)" in below.why
    above = heading("token x", Candidate("kings", "embedding", 0.58, 0.48, 0.7, 0.47))
    assert (above.text, above.source) == ("kings", "explanation")
    first = Candidate("a", "detection", 0.9, 0.7, 1.0, 0.6)
    assert leading([Candidate("b"), first, Candidate("c", "fuzzing", 0.9, 0.7, 1.0, 0.6)]) is first
    assert leading([]) is None
