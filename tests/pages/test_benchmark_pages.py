"""Benchmarks: figures are those of REST, with intervals and baselines; what is not told is said."""

from __future__ import annotations

from typing import Any

import httpx

from monosemy.specs.rest.benchmarks import BenchmarkView, Leaderboard
from service.pages.format import fixed, interval, signed
from service.pages.views.benchmarks import words_of
from tests.support.benchmark_rows import PROTOCOL, RESULT

HTML = {"Accept": "text/html"}
BOARD, ONE = f"/leaderboards/{PROTOCOL}", f"/benchmarks/{RESULT}"


def board(explorer: str, **query: str) -> Leaderboard:
    answer = httpx.get(f"{explorer}/api/v1{BOARD}", params=query)
    assert answer.status_code == 200, answer.text
    return Leaderboard.model_validate(answer.json())


def test_a_leaderboard_shows_ranks_baselines_and_differences(explorer: str, open_page: Any) -> None:
    it = board(explorer)
    page = open_page(explorer + BOARD, java_script_enabled=False)
    rows = page.locator("table.board tbody tr").all()
    for row, shown in zip(it.rows, rows, strict=True):
        words = shown.inner_text()
        assert row.sae in words and f"{row.best_rank}" in words
        for each in (row.figure, *row.beside):
            assert f"{fixed(each.value)} {interval(each.low, each.high)}" in words
    last = it.rows[-1].difference
    assert last is not None and signed(last.value) in rows[-1].inner_text()
    assert interval(last.low, last.high) in rows[-1].inner_text()
    assert "yes" in rows[-1].inner_text() and "–" in rows[0].inner_text()
    assert "1 of 1 pair can be told apart" in page.locator("p.verdict").inner_text()
    label = page.locator("svg.interval").first.get_attribute("aria-label")
    assert label.startswith(fixed(it.rows[0].figure.value)) and "frozen decoder 0.65" in label


def test_another_metric_and_another_to_hold_against(explorer: str, open_page: Any) -> None:
    page = open_page(explorer + BOARD)
    page.get_by_label("metric").select_option("l0")
    page.get_by_label("held against").select_option("raw")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**metric=l0**")
    assert "Neither end of this metric is better" in page.locator("p.verdict").inner_text()
    assert "less raw" in page.locator("table.board thead").inner_text()
    assert "what order there is may be chance" in page.locator("p.verdict").inner_text()


def test_a_result_shows_every_metric_and_every_unit(explorer: str, open_page: Any) -> None:
    answer = httpx.get(f"{explorer}/api/v1{ONE}").json()
    it = BenchmarkView.model_validate(answer)
    page = open_page(explorer + ONE, java_script_enabled=False)
    metrics, units = page.locator("table.board").all()
    for each in it.metrics:
        words = metrics.inner_text()
        assert fixed(each.value) in words
    own = next(each for each in it.metrics if each.subject == "sae")
    for unit, part, row in zip(it.units, own.parts, units.locator("tbody tr").all(), strict=True):
        assert unit.name in row.inner_text() and unit.family in row.inner_text()
        assert part is not None and fixed(part) in row.inner_text()
    assert it.about.sae_digest in page.locator("dl.about").inner_text()
    page.get_by_role("link", name="L0").click()
    assert "L0 by task" in page.locator("#units-title").inner_text()
    assert "–" in page.locator("table.board").last.locator("tbody tr").last.inner_text()


def test_metrics_are_called_by_words() -> None:
    assert words_of("absorption_fraction_0_6_0") == "absorption fraction 0.6.0"
    assert words_of("ce_score_zero") == "CE score zero" and words_of("auc_k5") == "AUC k5"


def test_lists_lead_there_and_say_what_to_do_where_there_is_nothing(explorer: str) -> None:
    for path, words in (
        ("/leaderboards", BOARD),
        ("/leaderboards?benchmark=none", "No SAE has been measured by a benchmark yet like that"),
        ("/benchmarks?sae=demo", ONE),
        ("/benchmarks?sae=demo&benchmark=none", "has not been measured by none yet"),
        ("/saes/demo", BOARD),
        ("/saes/raw", "beside others"),
    ):
        shown = httpx.get(explorer + path, headers=HTML)
        assert shown.status_code == 200 and words in shown.text, path
    assert httpx.get(f"{explorer}/leaderboards/none", headers=HTML).status_code == 404
