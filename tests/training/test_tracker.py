"""The experiment tracker: what it is told, and that it can cost nothing but itself."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from monosemy.errors import DataError
from monosemy.progress import Reporter
from monosemy.training.tracker import Tracker


class Told(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def log(self, message: str, **fields: Any) -> None:
        self.lines.append((message, fields))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    seen: list[Any] = []
    module = ModuleType("trackio")
    module.init = lambda **options: seen.append(("init", options))  # type: ignore[attr-defined]
    module.log = lambda reading, step: seen.append(("log", reading, step))  # type: ignore[attr-defined]
    module.finish = lambda: seen.append(("finish",))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", module)
    return seen


def test_readings_arrive_at_their_steps(calls: list[Any]) -> None:
    tracker = Tracker("trackio", "run", {"k": 3}, Told())
    tracker.log(10, {"step": 10, "fvu": 0.5})
    tracker.close()
    assert calls == [
        ("init", {"project": "monosemy", "name": "run", "config": {"k": 3}}),
        ("log", {"step": 10, "fvu": 0.5}, 10),
        ("finish",),
    ]


def test_a_tracker_that_fails_is_told_once_and_left_alone(
    calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = Told()
    tracker = Tracker("trackio", None, {}, reporter)

    def broken(*_args: Any, **_options: Any) -> None:
        raise RuntimeError("the key is SECRET")

    monkeypatch.setattr(sys.modules["trackio"], "log", broken)
    for step in range(3):
        tracker.log(step, {"step": step})
    tracker.close()
    assert reporter.lines == [("tracker given up", {"tracker": "trackio", "error": "RuntimeError"})]
    assert len(calls) == 1


def test_one_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(DataError, match="'wandb', which is not installed"):
        Tracker("wandb", None, {}, Told())
