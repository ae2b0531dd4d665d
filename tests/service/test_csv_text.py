"""Cells of CSV: what a spreadsheet would calculate is text, numbers stay numbers."""

from __future__ import annotations

import csv
import io

import pytest

from service.kit.csv_text import csv_lines


@pytest.mark.parametrize(
    "cell",
    ["=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1", "-", '="x"'],
)
def test_what_could_be_a_formula_is_text(cell: str) -> None:
    ((read_back,),) = csv.reader(io.StringIO(csv_lines([[cell]]), newline=""))
    assert read_back == f"'{cell}"


@pytest.mark.parametrize("cell", ["a = b", "king", "", "'=1", "1-1", "x@y", " ", "naïve"])
def test_other_texts_are_left_alone(cell: str) -> None:
    ((read_back,),) = csv.reader(io.StringIO(csv_lines([[cell]]), newline=""))
    assert read_back == cell


def test_numbers_are_numbers() -> None:
    assert csv_lines([[-1.5, 2, None]]) == "-1.5,2,\r\n"
