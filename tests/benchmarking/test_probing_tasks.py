"""Labelled texts: read from the package as data and from files, audited, drawn without leaks."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

from monosemy.benchmarking.probing import tasks as reader
from monosemy.benchmarking.probing.split import draw, leaked, usable_rows
from monosemy.benchmarking.probing.tasks import (
    NOT_WHAT_THEY_SAY,
    ProbingTask,
    digest_of_tasks,
    family_of,
    read_tasks,
)
from monosemy.benchmarking.probing.words import told_by_characters, told_by_length
from monosemy.errors import DataError
from monosemy.specs.benchmarks import PUBLISHED_TASKS


def _installed() -> bool:
    try:
        distribution(PUBLISHED_TASKS)
    except PackageNotFoundError:
        return False
    return True


published = pytest.mark.skipif(not _installed(), reason=f"{PUBLISHED_TASKS} is not installed")


def task_of(texts: list[str], labels: list[bool]) -> ProbingTask:
    return ProbingTask("own", "own", texts, np.array(labels))


@published
def test_the_package_has_what_is_known_of_it() -> None:
    """113 tasks of two classes, 334,092 texts, each task half and half; a fifth of the tested texts
    is among the fitted ones as published, and none otherwise."""
    tasks = read_tasks(PUBLISHED_TASKS, None)
    assert len(tasks) == 113 and sum(len(each.texts) for each in tasks) == 334_092
    assert {float(each.labels.mean()) for each in tasks} == {0.5}
    assert {*NOT_WHAT_THEY_SAY} <= {each.name for each in tasks}
    leaks = []
    for each in tasks:
        split = draw(each, usable_rows(each, "published"), 1024, 5000, 42)
        assert split is not None
        leaks.append(leaked(each, split))
        clean = draw(each, usable_rows(each, "clean"), 1024, 1000, 42)
        assert clean is None or leaked(each, clean) == 0
    assert np.mean(leaks) == pytest.approx(0.186, abs=0.005)


@published
def test_length_alone_tells_the_tasks_that_are_not_what_they_say() -> None:
    names = ["49_cm_isshort", *NOT_WHAT_THEY_SAY, "87_glue_cola"]
    areas = {}
    for each in read_tasks(PUBLISHED_TASKS, names):
        split = draw(each, usable_rows(each, "published"), 1024, 1000, 0)
        assert split is not None
        areas[each.name] = told_by_length(each, split).auc
    assert areas.pop("87_glue_cola") < 0.6
    assert min(areas.values()) > 0.99


@published
@pytest.mark.campaign
def test_characters_alone_tell_as_much_as_is_known() -> None:
    areas: dict[str, list[float]] = {"published": [], "clean": []}
    for each in read_tasks(PUBLISHED_TASKS, None):
        for variant, own in areas.items():
            rows = usable_rows(each, variant)  # type: ignore[arg-type]
            split = draw(each, rows, 1024, 1000, 42)
            if split is not None:
                own.append(told_by_characters(each, split).auc)
    assert np.mean(areas["published"]) == pytest.approx(0.86, abs=0.01)
    assert np.mean(areas["clean"]) == pytest.approx(0.82, abs=0.02)


def test_families_hold_tasks_that_are_alike() -> None:
    assert family_of("5_hist_fig_ismale") == family_of("7_hist_fig_ispolitician")
    assert family_of("65_high-school") == "bigrams"
    assert family_of("142_cancer_cat_Lung") == family_of("144_cancer_cat_Colon") == "cancer"
    assert family_of("136_glue_mnli_neutral") == "glue" != family_of("139_news_class_Politics")


def test_a_clean_split_takes_each_text_once_and_none_of_two_labels() -> None:
    texts = [f"text {at}" for at in range(60)] + ["Twice here", "twice  HERE"] + ["both", "both"]
    labels = [at % 2 == 0 for at in range(60)] + [True, True] + [True, False]
    task = task_of(texts, labels)
    clean = usable_rows(task, "clean")
    assert len(clean) == 61 and 60 in clean and 61 not in clean
    assert len(usable_rows(task, "published")) == 64
    split = draw(task, clean, 1024, 1000, 3)
    assert split is not None
    assert not {*split.train} & {*split.test} and leaked(task, split) == 0
    for rows in (split.train, split.test):
        assert task.labels[rows].mean() == 0.5
    again, other = draw(task, clean, 1024, 1000, 3), draw(task, clean, 1024, 1000, 4)
    assert again is not None and np.array_equal(again.train, split.train)
    assert other is not None and not np.array_equal(other.train, split.train)
    assert draw(task_of(texts[:38], labels[:38]), np.arange(38), 1024, 1000, 0) is None


def lines(*rows: object) -> str:
    return "\n".join(json.dumps(row) for row in rows)


def test_tasks_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text(
        lines(
            {"task": "a", "text": "yes", "label": True, "family": "f"},
            {"task": "b", "text": "no", "label": False},
            {"task": "a", "text": "no", "label": False},
            {"task": "b", "text": "yes", "label": True},
        )
    )
    a, b = read_tasks(str(file), None)
    assert (a.name, a.family, list(a.texts), a.labels.tolist()) == (
        "a",
        "f",
        ["yes", "no"],
        [True, False],
    )
    assert b.family == "b" and [each.name for each in read_tasks(str(file), ["b"])] == ["b"]
    before = digest_of_tasks(str(file))
    file.write_text(lines({"task": "a", "text": "yes", "label": True}))
    assert digest_of_tasks(str(file)) != before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (lines({"task": "a", "text": "x", "label": True}), "has 1 classes, not two"),
        (lines({"task": "a", "text": "", "label": True}), "line 1: text"),
        (lines({"task": "a", "text": 3, "label": True}), "line 1: text"),
        (lines({"task": "a", "text": "x", "label": "perhaps"}), "line 1: label"),
        ("[1]", "no object but list"),
        ("", "holds no prompts"),
    ],
)
def test_files_that_hold_no_tasks_are_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text(text)
    with pytest.raises(DataError, match=says):
        read_tasks(str(file), None)
    with pytest.raises(DataError, match="Cannot read"):
        read_tasks(str(tmp_path / "none.jsonl"), None)


def test_without_the_package_it_is_said_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "PUBLISHED_TASKS", "not-there-at-all")
    with pytest.raises(DataError, match=r"is not installed\. Install it .* pip install --no-deps"):
        digest_of_tasks("not-there-at-all")


@published
def test_a_task_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match="has no task 'nothing'"):
        read_tasks(PUBLISHED_TASKS, ["nothing"])
