"""The worst of what was found comes first, and is what the home page says."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import httpx

from monosemy.specs.rest.system import Check, Finding, Findings, Readiness
from service.pages.verdict import verdict

READY = Readiness(
    status="ready", checks={name: Check(status="ok") for name in ("database", "redis", "inference")}
)
SILENT = Readiness(
    status="not ready", checks={**READY.checks, "inference": Check(status="failed", detail="no")}
)


def found(**states: Any) -> Findings:
    items = [Finding(name, state, "said") for name, state in states.items()]
    return Findings(items=items, checked_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))


def test_one_failure_outweighs_parts_that_answer() -> None:
    shown = verdict(READY, found(database="ok", files="failed", judge="warning"), True)
    assert shown.state == "failed"
    assert shown.words == "1 of 3 checks failed: files; 1 warned: judge"


def test_a_part_that_does_not_answer_is_failed_whatever_the_findings_call_it() -> None:
    shown = verdict(SILENT, found(database="ok", inference="warning"), True)
    assert shown.state == "failed" and shown.words == "1 of 2 checks failed: inference"
    assert verdict(SILENT, None, False).words == "inference not answering"


def test_nothing_is_called_in_order_before_it_was_looked_at() -> None:
    assert verdict(READY, None, True).state == "unknown"
    assert verdict(READY, None, False).state == "ok"
    assert verdict(READY, found(database="ok"), True).words == "1 check made, all passed"


def test_home_and_health_say_the_same(explorer: str) -> None:
    for path in ("/health", "/"):
        page = httpx.get(explorer + path, headers={"Accept": "text/html"}).text
        assert re.search(r"\d of \d+ checks failed: [^<]*redis", page), path
        assert page.index("failed: ") < page.index("<table"), "before all else"


def test_findings_say_when_they_were_made(explorer: str) -> None:
    shown = httpx.get(f"{explorer}/api/v1/system/findings").json()
    assert abs(dt.datetime.fromisoformat(shown["checked_at"]).timestamp() - _now()) < 120


def _now() -> float:
    return dt.datetime.now(dt.UTC).timestamp()
