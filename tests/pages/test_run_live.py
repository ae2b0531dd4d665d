"""A run's page while the run goes on: what happens is shown, once, whatever is cut."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from service.database.session import transaction
from service.database.tables import Run, RunEvent, TrainingReading
from tests.support.browser import until
from tests.support.cuttable import cuttable
from tests.support.run_rows import add_run, stage, tell

CUT = ["Failed to load resource"]
"""What Chromium says of requests that a cut connection loses."""
LATEST_SECONDS = 1.0
LOOKS_MS = 6000
"""Home, and a run that waits, ask anew every five seconds."""


@pytest.fixture
def going(module_engine: Engine) -> uuid.UUID:
    """A run that a worker has."""
    with transaction(module_engine) as session:
        spec = {"kind": "train", "name": "live"}
        run = add_run(session, uuid.uuid4(), spec, state="running", attempt=1)
        return run.id


def log(engine: Engine, run: uuid.UUID, message: str) -> int:
    with transaction(engine) as session:
        return tell(session, run, "log", {"message": message})


def lines(page: Any) -> list[str]:
    """Log lines that are shown, but for the changes of state."""
    shown: list[str] = page.locator("[data-log] li.log").evaluate_all(
        "items => items.map(item => item.textContent.split(' train ').at(-1).trim())"
    )
    return shown


def opened(open_page: Any, explorer: str, run: uuid.UUID, **options: Any) -> Any:
    page = open_page(f"{explorer}/runs/{run}", **options)
    page.get_by_text("Live", exact=True).wait_for()
    return page


def test_run_live(explorer: str, open_page: Any, module_engine: Engine, going: uuid.UUID) -> None:
    """Lines come within a second; bar, stages, state and curves follow."""
    page = opened(open_page, explorer, going)
    late = []
    for number in range(5):
        message = f"line {number}"
        log(module_engine, going, message)
        late.append(until(page, lambda message=message: message in lines(page)))  # type: ignore[misc]
    assert min(late) <= LATEST_SECONDS, late
    assert lines(page) == [f"line {number}" for number in range(5)]
    with transaction(module_engine) as session:
        tell(session, going, "progress", stage("train", 750_000, 1_500_000))
    page.get_by_text("750,000 of 1,500,000 tokens").wait_for()
    assert page.locator("[data-progress] progress").evaluate("bar => bar.value") == 0.5
    with transaction(module_engine) as session:
        for step in (10, 20):
            reading = {"tokens": 2048 * step, "step": step, "fvu": 1 / step, "l0": 8.0, "terms": {}}
            session.add(TrainingReading(run_id=going, place=0, step=step, reading=reading))
    page.wait_for_timeout(3000)  # curves are asked for that seldom
    with transaction(module_engine) as session:
        tell(session, going, "progress", stage("train", 760_000, 1_500_000))
    page.locator('[data-curve="l0"] svg').hover()
    page.locator('[data-curve="l0"] .readout', has_text="tokens: SAE 8").wait_for()
    with transaction(module_engine) as session:
        tell(session, going, "stage", stage("tokenise", 1000, 1000))
    page.locator("[data-stages]").get_by_text("tokenise").wait_for()
    with transaction(module_engine) as session:
        session.get_one(Run, going).state = "cancelling"
        tell(session, going, "state", {"state": "cancelling", "from": "running"})
    page.get_by_text("It stops at its next step").wait_for()
    with transaction(module_engine) as session:
        run = session.get_one(Run, going)
        run.state, run.error = "cancelled", "cancelled"
        tell(session, going, "state", {"state": "cancelled", "from": "cancelling"})
    page.get_by_role("button", name="Retry").wait_for()
    assert lines(page) == [f"line {number}" for number in range(5)], "told once, also by the server"


def test_no_event_is_lost_or_doubled_by_a_cut(
    explorer: str, open_page: Any, module_engine: Engine, going: uuid.UUID
) -> None:
    """Among them one that is stored late, below the id of one that was shown before the cut."""
    log(module_engine, going, "before the page")
    wanted = ["before the page", "shown before", "stored late", "during the cut", "after the cut"]
    with cuttable(explorer) as way, Session(module_engine) as slow:
        page = opened(open_page, way.address, going, allowed=CUT)
        slow.add(RunEvent(run_id=going, type="log", data={"message": "stored late"}))
        slow.flush()
        log(module_engine, going, "shown before")
        until(page, lambda: "shown before" in lines(page))
        way.cut()
        log(module_engine, going, "during the cut")
        slow.commit()
        page.get_by_text("The connection is lost").wait_for()
        assert lines(page) == wanted[:2]
        way.mend()
        log(module_engine, going, "after the cut")
        until(page, lambda: len(lines(page)) >= len(wanted))
        page.wait_for_timeout(1500)
        assert sorted(lines(page)) == sorted(wanted)
        assert lines(page)[:2] == wanted[:2] and lines(page)[-1] == wanted[-1]
        page.close()


_HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_hidden_page_holds_no_connection(
    explorer: str, open_page: Any, module_engine: Engine, going: uuid.UUID
) -> None:
    page = opened(open_page, explorer, going)
    page.evaluate(_HIDE, True)
    log(module_engine, going, "while hidden")
    page.wait_for_timeout(1500)
    assert lines(page) == []
    page.evaluate(_HIDE, False)
    until(page, lambda: lines(page) == ["while hidden"])


def test_eight_tabs_load(explorer: str, open_page: Any, going: uuid.UUID) -> None:
    """A browser has six connections to a server: those that are not looked at let go of theirs."""
    first = opened(open_page, explorer, going)
    tabs = [first]
    for _ in range(7):
        tabs[-1].evaluate(_HIDE, True)
        tab = first.context.new_page()
        tab.goto(f"{explorer}/runs/{going}")
        tab.get_by_text("Live", exact=True).wait_for()
        tabs.append(tab)
    assert len(tabs) == 8
    for tab in tabs[1:]:
        tab.close()


def test_home_follows(
    explorer: str, open_page: Any, module_engine: Engine, going: uuid.UUID
) -> None:
    page = open_page(f"{explorer}/")
    page.clock.install()
    page.reload()
    row = page.locator(f'tr[data-run="{going}"]')
    assert row.count() == 1
    with transaction(module_engine) as session:
        session.get_one(Run, going).progress = stage("train", 3, 4)
    page.clock.fast_forward(LOOKS_MS)
    until(page, lambda: "3 of 4 tokens" in row.inner_text())
    assert "75" in row.inner_text()
    with transaction(module_engine) as session:
        session.get_one(Run, going).state = "succeeded"
    page.clock.fast_forward(LOOKS_MS)
    until(page, lambda: row.count() == 0)


def test_place_in_the_queue_is_kept_up(
    explorer: str, open_page: Any, module_engine: Engine
) -> None:
    spec = {"kind": "train", "name": "queued"}
    first, second = uuid.uuid4(), uuid.uuid4()
    for each in (first, second):  # a transaction each: they are queued one after the other
        with transaction(module_engine) as session:
            add_run(session, each, spec, priority=-50)
    page = open_page(f"{explorer}/runs/{second}")
    page.clock.install()
    page.reload()
    assert "goes before it" in page.locator("[data-standing]").inner_text()
    with transaction(module_engine) as session:
        session.get_one(Run, first).state = "running"
    page.clock.fast_forward(LOOKS_MS)
    page.get_by_text("it is next").wait_for()
    with transaction(module_engine) as session:
        for each in (first, second):
            session.delete(session.get_one(Run, each))
