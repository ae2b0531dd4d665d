"""Examples as text, over a real byte-level token table."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from monosemy.data.token_bytes import TokenBytes
from monosemy.errors import DataError
from monosemy.index.examples import Example
from monosemy.interp.shown import ShownExample, show_example
from tests.support.interp_examples import example as made

# ids:          0     1      2       3          4          5        6      7
TABLE = TokenBytes(
    [b"The", b" cat", b" sat", b" \xe2\x82", b"\xac", b"\xf0\x9f\x98", b"\x80", b" <<end>>"]
)


def store(*rows: list[int]) -> Any:
    starts = np.cumsum([0, *map(len, rows)])
    return SimpleNamespace(
        tokens=np.array([token for row in rows for token in row], dtype=np.uint32),
        row_start=starts.astype(np.int64),
    )


def window(row: int, start: int, end: int, position: int, **values: float) -> Example:
    offsets = tuple(int(name[1:]) for name in values)
    return Example(
        row=row,
        document=5,
        position=position,
        group=2,
        start=start,
        end=end,
        offsets=offsets,
        values=tuple(values.values()),
    )


def test_levels_run_from_0_to_10_of_the_features_maximum() -> None:
    shown = show_example(window(1, 2, 5, 3, _0=1.0, _1=4.0), store([0, 0], [0, 1, 2]), TABLE, 8.0)
    assert shown.pieces == ("The", " cat", " sat")
    assert shown.levels == (1.25, 5.0, 0.0)
    assert shown.id == (1, 3)
    assert (shown.document, shown.group, shown.centre, shown.peak) == (5, 2, 1, 5.0)
    assert shown.text == "The cat sat"
    # 1.25 is under 0.3 of this example's peak.
    assert shown.marked() == "The <<cat>> sat"
    assert shown.reference() == {"row": 1, "position": 3, "group": 2}


def test_an_activation_above_the_maximum_is_10() -> None:
    """Packed values are rounded, so one can exceed the maximum by a hair."""
    shown = show_example(window(0, 0, 2, 0, _0=8.001), store([0, 1]), TABLE, 8.0)
    assert shown.levels == (10.0, 0.0)
    assert show_example(window(0, 0, 2, 0), store([0, 1]), TABLE, 0.0).levels == (0.0, 0.0)


def test_a_character_over_two_tokens_is_marked_whole() -> None:
    # "€" is tokens 3 and 4; only its second half fires.
    shown = show_example(window(0, 0, 4, 2, _2=6.0), store([0, 3, 4, 1]), TABLE, 6.0)
    assert shown.pieces == ("The", " €", "", " cat")
    assert shown.levels == (0.0, 10.0, 10.0, 0.0)
    assert shown.marked() == "The <<€>> cat"


def test_a_window_that_begins_or_ends_inside_a_character() -> None:
    whole = store([0, 5, 6, 1, 5, 6])  # The 😀 cat 😀
    shown = show_example(window(0, 2, 5, 3, _1=1.0), whole, TABLE, 1.0)
    # Its first piece belongs to a character outside; the last one stands whole at its first token.
    assert shown.pieces == ("", " cat", "😀")
    assert shown.text == " cat😀"
    cut = store([6, 1, 5])  # a row that itself begins and ends inside characters
    shown = show_example(window(0, 0, 3, 1, _1=1.0), cut, TABLE, 1.0)
    assert shown.text == " cat"
    assert shown.marked() == " <<cat>>"


def test_neighbouring_marks_are_one_and_spaces_stay_outside() -> None:
    shown = show_example(window(0, 0, 3, 1, _1=2.0, _2=2.0), store([0, 1, 2]), TABLE, 2.0)
    assert shown.runs() == [("The", False), (" ", False), ("cat sat", True)]
    assert shown.marked() == "The <<cat sat>>"


def test_marked_white_space_stays_marked() -> None:
    shown = ShownExample(("a", "\n", " "), (0.0, 9.0, 9.0), 0, 1, 0, "top", 1)
    assert shown.marked() == "a<<\n >>"
    assert shown.quoted_marked() == '"a<<\\n >>"'


def test_marks_in_the_corpus_are_no_marks() -> None:
    shown = show_example(window(0, 0, 2, 0, _0=3.0), store([0, 7]), TABLE, 3.0)
    assert shown.quoted_marked().count("<<") == 1
    assert json.loads(shown.quoted()) == "The <<end>>"


def test_nothing_is_marked_where_nothing_fires() -> None:
    shown = show_example(window(0, 0, 2, 1), store([0, 1]), TABLE, 3.0)
    assert shown.marked() == "The cat"
    assert shown.peak == 0.0


def test_cropping_keeps_centre_and_identity() -> None:
    whole = made(4, "one two three<< four>> five six seven")
    cut = whole.cropped(1)
    assert cut.pieces == (" three", " four", " five")
    assert cut.pieces[cut.centre] == " four"
    assert (cut.id, cut.group, cut.document) == (whole.id, whole.group, whole.document)
    assert whole.cropped(50) == whole


def test_examples_of_another_store_are_refused() -> None:
    with pytest.raises(DataError, match="Row 3 is not in this token store"):
        show_example(window(3, 0, 1, 0), store([0]), TABLE, 1.0)
    with pytest.raises(DataError, match="does not lie in row 0"):
        show_example(window(0, 0, 4, 0), store([0, 1], [1, 2]), TABLE, 1.0)
