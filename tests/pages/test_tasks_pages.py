"""Tasks: figures are those of REST, with their intervals and baselines, and findings in words."""

from __future__ import annotations

from typing import Any

import httpx

from monosemy.circuits.supervised.words import sentences
from monosemy.specs.rest.tasks import TaskView
from service.pages.format import fixed, interval
from tests.support.task_rows import TASK

HTML = {"Accept": "text/html"}
PATH = f"/tasks/{TASK}"


def rest(explorer: str) -> TaskView:
    answer = httpx.get(f"{explorer}/api/v1{PATH}")
    assert answer.status_code == 200, answer.text
    return TaskView.model_validate(answer.json())


def test_every_figure_of_rest_is_shown_with_its_interval(explorer: str, open_page: Any) -> None:
    task = rest(explorer)
    page = open_page(explorer + PATH, java_script_enabled=False)
    (section,) = task.sections
    first, edits, changing, answers, features = page.locator("table.tests").all()
    for method, row in zip(section.methods, first.locator("tbody tr").all(), strict=True):
        words = row.inner_text()
        assert method.name in words
        for each in (method.approximation.sufficiency, method.approximation.necessity):
            if each.value is None:
                assert "–" in words
            else:
                assert f"{fixed(each.value)} {interval(each.low, each.high)}" in words
    (floor,) = section.floors
    for table, key, floors in (
        (edits, "accuracy", (floor.untouched.value, floor.random)),
        (changing, "accuracy_changing", (None, floor.random_changing)),
        (answers, "accuracy_answers", (None, floor.random_answers)),
    ):
        rows = table.locator("tbody tr").all()
        assert len(rows) == len(section.methods) + 2
        for method, row in zip(section.methods, rows, strict=False):
            for control in method.control:
                figure = getattr(control, key)
                assert fixed(figure.value) in row.inner_text()
                assert interval(figure.low, figure.high) in row.inner_text()
        untouched, random = floors
        assert (fixed(untouched) if untouched else "0") in rows[-2].inner_text()
        assert random is not None and fixed(random.value) in rows[-1].inner_text()
    for found, row in zip(task.interpretations, features.locator("tbody tr").all(), strict=True):
        words = row.inner_text()
        assert found.verdict in words and fixed(found.null) in words
        assert fixed(found.single.value) in words and fixed(found.supervised.value) in words
    drawn = first.locator("svg.interval").first.get_attribute("aria-label")
    assert "0.88, 95 % interval" in drawn


def test_what_is_occluded_or_split_is_told_in_words(explorer: str, open_page: Any) -> None:
    said = open_page(explorer + PATH).locator("ul.says li").all_inner_texts()
    assert said == sentences(rest(explorer)) and len(said) == 2


def test_features_of_an_sae_are_links(explorer: str, open_page: Any) -> None:
    page = open_page(explorer + PATH)
    page.locator("table.tests").last.get_by_role("link", name="3", exact=True).first.click()
    page.wait_for_url("**/saes/demo/features/3")


def test_tasks_are_listed_with_what_to_do_where_there_are_none(explorer: str) -> None:
    listed = httpx.get(f"{explorer}/tasks", headers=HTML).text
    assert PATH in listed and "supervised" in listed and fixed(0.625) in listed
    assert "edits of IO" in listed
    assert PATH in httpx.get(f"{explorer}/tasks?sae=demo", headers=HTML).text
    none = httpx.get(f"{explorer}/tasks?sae=raw", headers=HTML).text
    assert "has been tried at no task" in none and "kind=task" in none
    assert httpx.get(f"{explorer}/tasks?sae=none", headers=HTML).status_code == 404
