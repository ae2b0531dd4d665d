"""SAEs and bases beside each other: known distributions, differences and the words about them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from monosemy.errors import DataError
from monosemy.interp.report.beside import Side, build_beside, medians_table
from monosemy.interp.report.beside_page import beside_page
from monosemy.interp.report.table import FeatureScores, Measured, Scored

HOSTILE = "</td><script>alert(1)</script>"


def side(name: str, values: list[float], scorer: str = "detection", **more: object) -> Side:
    table = []
    for feature, value in enumerate(values):
        own = Measured(value, value - 0.05, value + 0.05, 20, 0)
        shuffled = Measured(0.5, 0.4, 0.6, 20, 0)
        score = Scored(scorer, "balanced_accuracy", own, {"shuffled": shuffled}, chance=0.5)
        table.append(FeatureScores(feature, "words", {scorer: score}))
    return Side(name, table, **more)  # type: ignore[arg-type]


def drawn(middle: float, n: int, seed: int) -> list[float]:
    return np.random.default_rng(seed).normal(middle, 0.05, n).round(4).tolist()


def test_medians_and_their_difference_are_what_they_are() -> None:
    one, two, three = drawn(0.8, 60, 0), drawn(0.6, 400, 1), drawn(0.8, 60, 2)
    report = build_beside(
        [side("sae", one), side("neurons", two, basis="neurons"), side("twin", three)]
    )
    section = report["scorers"]["detection"]
    medians = {name: each["median"]["value"] for name, each in section["series"].items()}
    assert medians == {
        name: pytest.approx(float(np.median(values)))
        for name, values in (("sae", one), ("neurons", two), ("twin", three))
    }
    apart, alike = section["differences"]
    assert apart["value"] == pytest.approx(np.median(one) - np.median(two))
    assert 0 < apart["low"] < apart["value"] < apart["high"] and not apart["covers_zero"]
    assert "predict sae better than neurons" in apart["says"]
    above = np.mean([a > b or 0.5 * (a == b) for a in one for b in two])
    assert apart["above"]["value"] == pytest.approx(above, abs=1e-3)
    assert alike["low"] <= 0 <= alike["high"] and alike["covers_zero"]
    assert "the interval covers 0, so these scores do not tell the two apart" in alike["says"]
    # Shares: the bins of each sum up to its own number of features.
    assert [sum(each["counts"]) for each in section["series"].values()] == [60, 400, 60]
    told = {name: each["above"]["value"] for name, each in section["intervals"].items()}
    assert told["sae"] == pytest.approx(np.mean([value - 0.05 > 0.5 for value in one]))


def test_what_is_better_is_said_whichever_comes_first() -> None:
    report = build_beside([side("low", drawn(0.55, 80, 3)), side("high", drawn(0.9, 80, 4))])
    (difference,) = report["scorers"]["detection"]["differences"]
    assert difference["high"] < 0 and "predict high better than low" in difference["says"]


def test_an_interval_of_a_difference_covers_it_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(100):
        one = side("a", drawn(0.7, 40, 2 * seed))
        two = side("b", drawn(0.7, 70, 2 * seed + 1))
        (found,) = build_beside([one, two])["scorers"]["detection"]["differences"]
        covered += bool(found["covers_zero"])
    assert covered >= 90


def test_by_density() -> None:
    values = [0.6, 0.7, 0.8, 0.9]
    densities = dict(enumerate([0.0, 5e-5, 1e-3, 0.5]))
    report = build_beside([side("a", values, densities=densities), side("b", values)])
    strata = report["scorers"]["detection"]["densities"]
    found = [each["medians"]["a"] and each["medians"]["a"]["value"] for each in strata]
    assert found == [0.7, 0.8, None, 0.9], "silent ones are in none"
    assert all(each["medians"]["b"] is None for each in strata), "nobody knows how often they fire"
    rows = medians_table(report["scorers"]["detection"])
    assert [row[0] for row in rows] == ["0 to 0.0001", "0.0001 to 0.001", "0.01 to 1"]
    assert rows[0][1].startswith("0.70") and rows[0][2] == "none scored"


def test_what_cannot_stand_beside_each_other() -> None:
    one = side("a", [0.5, 0.6])
    for sides, words in (
        ([one], "2 to 4 different"),
        ([one, side("a", [0.5])], "2 to 4 different"),
        ([one, *(side(name, [0.5]) for name in "bcde")], "2 to 4 different"),
        ([one, side("b", [0.5], scorer="fuzzing")], "No scorer has scored"),
        ([one, side("b", [])], "No scorer has scored"),
    ):
        with pytest.raises(DataError, match=words):
            build_beside(sides)


def test_the_page_shows_it_and_is_safe() -> None:
    first = side(HOSTILE, drawn(0.7, 30, 0), latents=64, l0=4.0, text="t", basis=None)
    fires = {"silent": 0.25, "few": 0.5}
    other = side("neurons", drawn(0.7, 30, 1), basis="neurons", latents=128, fires=fires, text="u")
    report = json.loads(json.dumps(build_beside([first, other])))
    page = beside_page(report)
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "covers 0" in page and "25.0" in page and "not all indexed over one text" in page
    assert len(re.findall("<svg", page)) >= 3
    same_text = build_beside([first, side("b", [0.5], text="t")])
    assert "not all indexed" not in beside_page(same_text)
