"""Runs are told of alike by the server and by the scripts."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest

from monosemy.specs import parse_spec
from monosemy.specs.rest.runs import RunDetail, RunEventMessage, RunSummary, RunWaiting
from service.pages import run_words
from service.pages.static import static_path

ID = uuid.UUID(int=5)
NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)

PROGRESS: list[dict[str, Any]] = [
    {},
    {"done": "many"},
    {"done": 0, "total": None, "unit": "tokens", "stage": "train", "rate": 0.0},
    {"done": 5, "total": 0, "stage": "x"},
    {"done": 1064960, "total": 1500000, "unit": "tokens", "rate": 10473.2, "eta_seconds": 41.6},
    {"done": 7, "total": 5, "unit": "features", "rate": 0.131, "eta_seconds": 7200},
    {"done": True, "total": 5},
    {"done": 1, "total": 1, "unit": "features", "stage": "explain"},
    {"done": 1, "total": 4, "unit": "features", "stage": "explain"},
    {"done": 3.6, "total": 4, "unit": "rows", "eta_seconds": None, "rate": "fast"},
]
EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("log", {"message": "text is tokenised", "tokens": 605000, "deep": {"a": 1}, "list": [1]}),
    ("log", {}),
    ("state", {"state": "running", "attempt": 2}),
    ("state", {"state": "running", "attempt": 2, "takeover": True, "reached": [1, 2]}),
    ("state", {"state": "queued", "kind": "train"}),
    ("state", {"state": "queued", "interrupted": True}),
    ("state", {"state": "queued", "retried": True}),
    ("state", {"state": "queued", "error": "away", "retry_in_seconds": 30.0}),
    ("state", {"state": "queued", "error": "away"}),
    ("state", {"state": "failed", "error": "<b>no</b>"}),
    ("state", {"state": "succeeded"}),
    ("state", {"state": "cancelled", "error": "cancelled"}),
]
WAITING = [
    ("turn", 0, 0),
    ("turn", 1, 2),
    ("turn", 1200, 1),
    ("time", None, 0),
    ("run", None, 0),
    ("paused queue", 3, 0),
    ("full queue", 0, 4),
    ("full key", 2, 4),
]

TITLES: list[dict[str, Any]] = [
    {"kind": "pipeline", "subject": None, "other": None, "scorer": None},
    {"kind": "train", "subject": "wide", "other": None, "scorer": None},
    {"kind": "compare", "subject": "a", "other": "b", "scorer": None},
    {"kind": "score", "subject": "a", "other": None, "scorer": "detection"},
]

_SCRIPT = """async ([address, progress, events, waiting, titles]) => {
  const runs = await import(address);
  return {
    progress: progress.map((each) => runs.progress(each)),
    took: progress.map((each) => runs.took(each)),
    line: events.map(([type, data]) => runs.line({ type, data })),
    titles: titles.map((each) => runs.title(each)),
    waiting: waiting.map(([waits_for, ahead, under_way]) =>
      runs.waiting({ waits_for, ahead, under_way, queue: "gpu" })),
  };
}"""


def event(type_: str, data: dict[str, Any]) -> RunEventMessage:
    return RunEventMessage(id=1, run_id=ID, type=type_, data=data, created_at=NOW)


def test_server_and_scripts_say_the_same(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/models")
    address = explorer + static_path("lib/runs.js")
    shown = page.evaluate(_SCRIPT, [address, PROGRESS, EVENTS, WAITING, TITLES])
    assert shown["titles"] == [run_words.title(RunSummary.model_construct(**t)) for t in TITLES]
    assert shown["titles"][2:] == ["compare a with b", "score a by detection"]
    for given, script in zip(PROGRESS, shown["progress"], strict=True):
        told = run_words.progress(given)
        own = None if told is None else vars(told)
        assert own == script, given
    assert [run_words.took(each) for each in PROGRESS] == shown["took"]
    assert [list(run_words.line(event(*each))) for each in EVENTS] == shown["line"]
    for (waits_for, ahead, under_way), script in zip(WAITING, shown["waiting"], strict=True):
        told_of = RunWaiting(
            run_id=ID,
            queue="gpu",
            waits_for=waits_for,  # type: ignore[arg-type]
            ahead=ahead,
            under_way=under_way,
            until=None,
            depends_on=None,
        )
        assert run_words.waiting(told_of) == script


def detail(spec: dict[str, Any]) -> RunDetail:
    whole = parse_spec(spec).model_dump(mode="json")
    times = {"created_at": NOW, "started_at": None, "finished_at": None, "not_before": NOW}
    rest = {"depends_on": None, "stages": [], "result": None, "progress": {}, "error": None}
    place = {"parent_id": None, "position": 0, "priority": 0, "attempt": 0, "max_attempts": 3}
    more: dict[str, Any] = {**times, **rest, **place}
    return RunDetail(id=ID, kind=whole["kind"], queue="interp", state="queued", spec=whole, **more)


@pytest.mark.parametrize(
    ("specs", "wanted"),
    [
        ([{"kind": "train"}], None),
        ([{"kind": "explain", "sae": "x"}], None),
        ([{"kind": "explain", "sae": "x", "explanation": {"judge": {"budget": 2.0}}}], 2.0),
        ([{"kind": "score", "sae": "x", "scoring": {"scorer": "embedding"}}], None),
        (
            [
                {"kind": "explain", "sae": "x", "explanation": {"judge": {"budget": 2.0}}},
                {"kind": "score", "sae": "x", "scoring": {"judge": {"budget": 1.5}}},
                {"kind": "score", "sae": "x", "scoring": {"scorer": "embedding"}},
            ],
            3.5,
        ),
        (
            [
                {"kind": "explain", "sae": "x", "explanation": {"judge": {"budget": 2.0}}},
                {"kind": "score", "sae": "x"},
            ],
            None,
        ),
    ],
)
def test_the_budget_is_that_of_all_judges_or_none(
    specs: list[dict[str, Any]], wanted: float | None
) -> None:
    """One judge without a limit leaves the whole without."""
    assert run_words.budget(map(detail, specs)) == wanted
