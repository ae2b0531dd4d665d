"""The report over planted scores whose numbers are known, and the page that shows it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from monosemy.errors import DataError
from monosemy.interp.duplicate_labels import duplicate_labels
from monosemy.interp.judging.usage import Usage
from monosemy.interp.report.build import Extras, build_report
from monosemy.interp.report.measures import chance_of_exceeding, median
from monosemy.interp.report.page import _calibration, report_body, report_page
from monosemy.interp.report.table import FeatureScores, Measured, Scored, scored
from monosemy.interp.scorers.auroc import auroc
from monosemy.interp.scorers.balanced_accuracy import balanced_accuracy
from monosemy.interp.scorers.result import Judgement, ScoreResult
from monosemy.interp.statistics.rates import Z95
from monosemy.specs.parts import PriceSpec
from monosemy.svg import policy
from tests.support.mock_scoring import graded_scoring, yes_no_scoring
from tests.support.score_rows import score_row, scored_result

HOSTILE = "</td><script>alert(1)</script> \"'& <img src=x onerror=y>"


def result(scorer: str, judgements: list[Judgement], tokens: int = 100) -> ScoreResult:
    summarise = balanced_accuracy if scorer == "detection" else auroc
    summary = summarise(judgements, "random")
    return ScoreResult(
        scorer,
        summary.metric,
        summary.value,
        summary.low,
        summary.high,
        len(judgements),
        0,
        summary.worst_case,
        summary.details,
        Usage(prompt_tokens=tokens, cached_tokens=tokens // 2, completion_tokens=10, calls=2),
        tuple(judgements),
    )


def plain(scorer: str, value: float, half: float = 0.1, **more: Any) -> Scored:
    own = Measured(value, value - half, value + half, 20, 0)
    return Scored(scorer, "balanced_accuracy", own, **more)


def table(values: dict[str, list[float]], **more: Any) -> list[FeatureScores]:
    count = len(next(iter(values.values())))
    return [
        FeatureScores(
            i, f"words {i}", {name: plain(name, v[i], **more) for name, v in values.items()}
        )
        for i in range(count)
    ]


def judged_table(features: int = 40) -> list[FeatureScores]:
    """Detection with hit rate 0.9 and false alarms 0.2 against guessing, and embedding scores."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(features):
        judgements = yes_no_scoring(rng, 20, 0.9, 0.2)
        judgements = [replace(j, group=n % 10) for n, j in enumerate(judgements[:20])] + [
            replace(j, tier=tier) for tier in ("random", "neighbour") for j in judgements[20:]
        ]
        own = result("detection", judgements)
        shuffled = result("detection", yes_no_scoring(rng, 20, 0.5, 0.5), tokens=60)
        empty = result("detection", yes_no_scoring(rng, 20, 0.5, 0.5), tokens=40)
        near = result("embedding", graded_scoring(rng, 20, 20, 0.8))
        scores = {
            "detection": scored_result(own.with_baseline(shuffled).with_empty(empty)),
            "embedding": scored_result(near),
        }
        rows.append(FeatureScores(i, HOSTILE if i % 2 else f"words {i}", scores))
    return rows


# -------------------------------------------------------------------- the table
def test_a_row_of_scores_says_what_the_score_does() -> None:
    rng = np.random.default_rng(1)
    score = result("detection", yes_no_scoring(rng, 20, 0.9, 0.2))
    score = score.with_baseline(result("detection", yes_no_scoring(rng, 20, 0.5, 0.5), 60))
    row = score_row(score)
    from_row = scored(row)
    assert score.baseline is not None
    assert from_row.own.value == score.value
    assert from_row.baselines["shuffled"].high == score.baseline.high
    assert from_row.tiers == {"random": score.value} and from_row.chance == 0.5
    assert from_row.strata == {"0": score.details["tpr"]["value"]}
    assert (from_row.usage.prompt_tokens, from_row.baseline_usage.prompt_tokens) == (100, 60)
    assert from_row.own.z == Z95
    wider = {**row, "details": {**row["details"], "looks": {"critical_value": 2.4}}}
    assert scored(wider).own.z == 2.4
    with pytest.raises(DataError, match="no row of scores"):
        scored({"scorer": "detection"})


def test_ten_strata_stand_in_their_order() -> None:
    details = {"recall_by_group": {str(i): {"value": i / 10} for i in (10, 2, 0, 9)}}
    row = {"scorer": "d", "metric": "m", "value": 1, "low": 0, "high": 1, "n": 4, "n_failed": 0}
    assert list(scored({**row, "details": details}).strata) == ["0", "2", "9", "10"]


# -------------------------------------------------------------------- the numbers
def test_medians_and_gains_are_those_of_the_features() -> None:
    values = [0.5, 0.6, 0.7, 0.8, 0.9]
    bases = {"shuffled": Measured(0.55, 0.45, 0.65, 20, 0)}
    section = build_report(table({"detection": values}, baselines=bases))["scorers"]["detection"]
    own = section["series"]["own"]
    assert own["median"]["value"] == 0.7 and own["mean"]["value"] == pytest.approx(0.7)
    assert own["median"]["low"] == 0.5 and own["median"]["high"] == 0.9
    assert sum(own["counts"]) == 5 == sum(section["series"]["shuffled"]["counts"])
    assert own["percentiles"][0] == 0.5 and own["percentiles"][50] == 0.7
    assert section["gains"]["shuffled"]["value"] == pytest.approx(0.15)
    # 0.6, 0.5 + 0.1 > 0.55 > 0.6 - 0.1; the intervals of 0.7, 0.8 and 0.9 are above it.
    assert section["intervals"]["above"]["value"] == pytest.approx(3 / 5)
    assert section["intervals"]["below"]["value"] == 0


def test_the_medians_interval_covers() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(300):
        interval = median(rng.standard_normal(40))
        assert interval is not None
        hits += interval["low"] <= 0 <= interval["high"]
    assert 0.92 <= hits / 300 <= 0.985
    assert median([]) is None


def test_p_values_by_hand() -> None:
    own, base = Measured(0.8, 0.7, 0.9, 9, 0), Measured(0.5, 0.4, 0.6, 9, 0)
    # Both ends are 0.1 away: the standard error is 0.1 / 1.96 * sqrt(2), hence z = 4.158.
    assert chance_of_exceeding(own, base) == pytest.approx(1.61e-5, rel=0.01)
    assert chance_of_exceeding(base, base) == pytest.approx(0.5)
    assert chance_of_exceeding(base, own) == pytest.approx(1 - 1.61e-5)
    assert chance_of_exceeding(Measured(None, 0, 1, 0, 3), base) is None
    point = Measured(0.8, 0.8, 0.8, 9, 0)
    assert chance_of_exceeding(point, point) == 1.0


def test_intervals_that_exclude_and_how_many_remain() -> None:
    """Ten features far above, ninety at the baseline, whose own intervals hold chance."""
    values = [0.9] * 10 + [0.5] * 90
    bases = {"shuffled": Measured(0.5, 0.4, 0.6, 20, 0)}
    rows = table({"detection": values}, baselines=bases, chance=0.5)
    intervals = build_report(rows)["scorers"]["detection"]["intervals"]
    assert intervals["above"]["value"] == pytest.approx(0.1) and intervals["above"]["n"] == 100
    assert intervals["discoveries"]["count"] == intervals["discoveries"]["uncorrected"] == 10
    assert intervals["null"]["value"] == 0.0
    low, high = intervals["above"]["low"], intervals["above"]["high"]
    assert low == pytest.approx(0.0552, abs=1e-4) and high == pytest.approx(0.1744, abs=1e-4)


def test_spearman_by_hand() -> None:
    """Ranks 1 2 3 4 5 against 2 1 4 3 5: 1 - 6 x 4 / (5 x 24) = 0.8."""
    values = {"a": [0.1, 0.2, 0.3, 0.4, 0.5], "b": [0.6, 0.55, 0.8, 0.7, 0.9], "c": [0.5] * 5}
    agreement = build_report(table(values))["agreement"]
    assert [(pair["first"], pair["second"]) for pair in agreement] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    assert agreement[0]["value"] == pytest.approx(0.8) and agreement[0]["n"] == 5
    assert agreement[0]["low"] <= 0.8 <= agreement[0]["high"]
    both = [list(pair) for pair in zip(values["a"], values["b"], strict=True)]
    assert sorted(agreement[0]["points"]) == both
    assert agreement[1]["value"] is None and "equal" in agreement[1]["reason"]


def test_only_features_with_both_scores_are_compared() -> None:
    rows = table({"a": [0.1, 0.2, 0.3, 0.4], "b": [0.4, 0.3, 0.2, 0.1]})
    rows[0] = FeatureScores(0, "words", {"a": plain("a", 0.9)})
    report = build_report(rows)
    (pair,) = report["agreement"]
    assert (pair["value"], pair["n"]) == (-1.0, 3)
    assert report["scorers"]["b"]["features"] == 3


def test_the_chance_to_exceed_another_sae_by_hand() -> None:
    """(0.6 > 0.5), (0.6 = 0.6), (0.8 > both): (1 + 0.5 + 2) / 4."""
    extras = Extras(reference=table({"detection": [0.5, 0.6]}))
    section = build_report(table({"detection": [0.6, 0.8]}), extras=extras)["scorers"]["detection"]
    above = section["above_reference"]
    assert above["value"] == pytest.approx(3.5 / 4)
    assert above["low"] <= 3.5 / 4 <= above["high"]
    assert section["series"]["reference"]["n"] == 2


def test_strata_tiers_and_cost_are_means_over_features() -> None:
    rows = [
        FeatureScores(
            i,
            "words",
            {
                "detection": plain(
                    "detection",
                    0.7,
                    strata={"0": low, "9": 1.0},
                    tiers={"random": 0.8, "neighbour": 0.6},
                    usage=Usage(
                        prompt_tokens=1000 * (i + 1), cached_tokens=500, completion_tokens=100
                    ),
                    baseline_usage=Usage(prompt_tokens=400),
                )
            },
        )
        for i, low in enumerate((0.2, 0.4, 0.6))
    ]
    price = PriceSpec(input=1.0, cached=0.1, output=4.0)
    section = build_report(rows, extras=Extras(price=price))["scorers"]["detection"]
    assert section["strata"]["0"]["value"] == pytest.approx(0.4)
    # Student's 4.303 x sd 0.2 / sqrt 3.
    assert section["strata"]["0"]["low"] == pytest.approx(0.4 - 4.303 * 0.2 / 3**0.5, abs=1e-3)
    assert section["tiers"]["neighbour"]["value"] == pytest.approx(0.6)
    assert section["cost"]["own"]["prompt_tokens"] == 2000
    # 1,500 fresh at 1, 500 cached at 0.1, 100 written at 4, per million.
    assert section["cost"]["own"]["cost"] == pytest.approx((1500 + 50 + 400) / 1e6)
    assert section["cost"]["baselines"]["cost"] == pytest.approx(400 / 1e6)


def test_undefined_scores_are_counted_and_left_out() -> None:
    rows = table({"detection": [0.6, 0.8]})
    none = Scored("detection", "balanced_accuracy", Measured(None, 0.0, 1.0, 0, 20))
    rows.append(FeatureScores(9, "words", {"detection": none}))
    section = build_report(rows)["scorers"]["detection"]
    assert (section["features"], section["undefined"]) == (3, 1)
    assert section["failed_share"] == pytest.approx(20 / 60)
    assert section["series"]["own"]["n"] == 2
    assert "feature" in section["worst"][0] and len(section["worst"]) == 2


def test_judged_scores_come_out_as_planted() -> None:
    report = build_report(judged_table())
    detection = report["scorers"]["detection"]
    assert detection["series"]["own"]["mean"]["value"] == pytest.approx(0.85, abs=0.03)
    assert detection["series"]["shuffled"]["mean"]["value"] == pytest.approx(0.5, abs=0.05)
    assert detection["series"]["empty"]["mean"]["value"] == pytest.approx(0.5, abs=0.05)
    assert detection["gains"]["empty"]["value"] == pytest.approx(0.35, abs=0.08)
    assert detection["intervals"]["null"]["low"] <= 0.05 <= detection["intervals"]["null"]["high"]
    assert detection["intervals"]["discoveries"]["count"] >= 30
    assert list(detection["strata"]) == [str(i) for i in range(10)]
    for stratum in detection["strata"].values():
        assert stratum["n"] == 40 and stratum["value"] == pytest.approx(0.9, abs=0.1)
    assert detection["tiers"]["neighbour"] == detection["tiers"]["random"]
    embedding = report["scorers"]["embedding"]
    assert embedding["series"]["own"]["mean"]["value"] == pytest.approx(0.8, abs=0.03)
    assert list(embedding["series"]) == ["own"] and embedding["intervals"]["n"] == 0
    assert embedding["chance"] == 0.5


def test_what_cannot_be_reported_is_said() -> None:
    with pytest.raises(DataError, match="no scores"):
        build_report([])
    rows = table({"detection": [0.6, 0.8]})
    with pytest.raises(DataError, match="twice"):
        build_report([*rows, rows[0]])
    other = Scored("detection", "auroc", Measured(0.5, 0, 1, 1, 0))
    with pytest.raises(DataError, match="different metrics"):
        build_report([*rows, FeatureScores(7, "words", {"detection": other})])


# -------------------------------------------------------------------- the page
class Strict(HTMLParser):
    """Every tag that opens closes, and nothing on the page can run or load anything."""

    VOID = frozenset({"meta", "rect", "line", "path", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        assert tag not in {"script", "img", "iframe", "link", "object", "embed", "base", "form"}
        for name, value in attrs:
            assert not name.startswith("on") and name not in {"src", "href"}, (tag, name, value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Strict:
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert not parser.open
    assert "nan" not in page.lower().split("<body>")[1].replace("discrimination", "")
    assert "inf " not in page and "Infinity" not in page
    assert "http:" not in page and "https:" not in page and "style=" not in page
    assert policy() in page
    return parser


def test_the_page_shows_everything_and_runs_nothing() -> None:
    rows = judged_table()
    duplicates = duplicate_labels(
        [each.feature for each in rows],
        [each.explanation for each in rows],
        decoder_FD=np.eye(40),
    )
    extras = Extras(
        reference=judged_table(10), duplicates=duplicates, price=PriceSpec(input=1.0, output=2.0)
    )
    report = build_report(rows, HOSTILE, extras)
    page = report_page(json.loads(json.dumps(report, allow_nan=False)))
    assert page == report_page(report), "its JSON read back gives the same page"
    parsed = read(page)
    shown = "".join(parsed.text)
    assert HOSTILE in shown and "<script" not in page
    assert "20 of 40 features (50\u2009%) share" in shown
    # Seven plots of detection, three of embedding, a matrix, two costs.
    plots = page.count('role="img"')
    assert plots == 7 + 3 + 1 + 2 == parsed.seen.count("figcaption")
    assert page.count('<p class="says">') >= plots
    assert "Spearman" in shown and "Benjamini" in shown and "random weights" in shown


def test_a_report_of_a_single_score_has_a_page_too() -> None:
    read(report_page(build_report(table({"detection": [0.5]}))))
    none = Scored("detection", "balanced_accuracy", Measured(None, 0.0, 1.0, 0, 20))
    read(report_page(build_report([FeatureScores(0, "words", {"detection": none})])))


def test_open_ended_intervals_are_json() -> None:
    row = {"scorer": "d", "metric": "m", "value": 0.5, "low": None, "high": None}
    from_row = scored({**row, "n": 3, "n_failed": 0, "details": {}})
    report = build_report([FeatureScores(0, "words", {"d": from_row})])
    json.dumps(report, allow_nan=False)
    read(report_page(report))
    assert report["scorers"]["d"]["best"][0]["low"] is None


def test_the_size_of_a_report_does_not_grow_with_the_features() -> None:
    rng = np.random.default_rng(5)
    bases = {"shuffled": Measured(0.5, 0.4, 0.6, 20, 0)}
    sizes = []
    for count in (1000, 4000):
        values = {name: rng.random(count).tolist() for name in ("a", "b")}
        sizes.append(len(report_page(build_report(table(values, baselines=bases)))))
    assert sizes[1] < 1.1 * sizes[0]


def test_dots_lead_to_their_features() -> None:
    """Where the page stands in a service; each dot has its own feature's figures."""
    bases = {"shuffled": Measured(0.5, 0.4, 0.6, 20, 0)}
    rows = table({"a": [0.2, 0.9, 0.4], "b": [0.1, 0.7, 0.6]}, baselines=bases)
    body = report_body(build_report(rows), lambda index: f"/f/{index}?x&y")
    dots = dict(re.findall(r'<a href="/f/(\d+)\?x&amp;y"[^>]*><title>[^<]*: ([\d.]+), 95', body))
    drawn = {str(row.feature): row.scores["b"].own.value for row in rows}
    assert {name: float(value) for name, value in dots.items()} == drawn
    clouds = re.findall(r"/f/(\d+)[^>]*><title>feature \d+: a ([\d.]+), b ([\d.]+)<", body)
    assert sorted((int(i), float(a), float(b)) for i, a, b in clouds) == [
        (row.feature, row.scores["a"].own.value, row.scores["b"].own.value) for row in rows
    ]


def test_bars_are_as_high_as_the_shares() -> None:
    """Four features in the first bin, four in the last, none between: two bars of one height, on an
    axis that goes to the next round value, 0.6."""
    page = report_page(build_report(table({"detection": [0.2] * 4 + [0.9] * 4})))
    histogram = page.split("<svg")[1]
    heights = [
        float(height) for height in re.findall(r'rect class="bar"[^>]*height="([\d.]+)"', histogram)
    ]
    assert len(heights) == 30 and heights[0] == heights[-1] == pytest.approx(156.0 * 0.5 / 0.6)
    assert sum(heights[1:-1]) == 0


@pytest.mark.parametrize(("above", "verb"), [(0, "lie"), (1, "lies"), (2, "lie")])
def test_what_chance_alone_would_do_is_a_sentence(above: int, verb: str) -> None:
    share = {"value": 0.0, "low": 0.0, "high": 0.1}
    found = {"count": 0, "rate": 0.05, "n": 10, "uncorrected": above}
    intervals = {
        "n": 10,
        "null": {"value": None},
        "discoveries": found,
        "above": share,
        "below": share,
    }
    words = _calibration({"intervals": intervals, "drawn": []})
    assert (
        f"{above} {verb} above it with p at most 0.05, where chance alone would put at most 0.5 on"
        " average." in words
    )
