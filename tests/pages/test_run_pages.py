"""Home, runs, spend, health, audit: what they show, and what can be done there."""

from __future__ import annotations

import html
import re
import uuid
from typing import Any

import httpx
from sqlalchemy import Engine, delete, select

from service.app import create_app
from service.database.graph_tables import StoredGraph
from service.database.session import transaction
from service.database.tables import Run
from service.settings import Settings
from tests.support import run_rows
from tests.support.browser import holds
from tests.support.graph_rows import add_graph
from tests.support.run_rows import (
    AGAIN,
    CANCELLING,
    FAILED,
    HOSTILE,
    PIPELINE,
    QUEUED,
    RUNNING,
    WARNED,
)
from tests.support.served import served

HTML = {"Accept": "text/html"}


def page(explorer: str, path: str, **query: Any) -> str:
    """The text of a page, tags left out."""
    answer = httpx.get(explorer + path, headers=HTML, params=query or None)
    assert answer.status_code == 200, answer.text
    return words(answer.text)


def words(html: str) -> str:
    from html import unescape

    body = html[html.index("<main") : html.index("</main>")]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def test_home_shows_what_goes_on(explorer: str) -> None:
    shown = page(explorer, "/")
    assert "train wide" in shown and "1,064,960 of 1,500,000 tokens · 10,473/s · 0:42 left" in shown
    assert "index" in shown and "40 features" in shown
    assert "pipeline whole running" not in shown, "its step stands for it"
    assert "demo" in shown and "topk" in shown and "0.250" in shown
    assert "redis" in shown and ("not answering" in shown or "failed: " in shown)


def test_runs_are_listed_by_state_and_kind(explorer: str) -> None:
    every = page(explorer, "/runs")
    for title in ("train wide", "explain demo", "evaluate demo", "pipeline whole"):
        assert title in every
    assert "index demo" not in every, "steps are shown with their pipeline"
    assert "explain" in page(explorer, "/runs", kind="explain", state="queued")
    assert "No run is like that" in page(explorer, "/runs", kind="sweep")
    assert httpx.get(f"{explorer}/runs?state=odd", headers=HTML).status_code == 422


def test_a_run_shows_where_it_stands(explorer: str) -> None:
    running = page(explorer, f"/runs/{RUNNING}")
    assert "71 % 1,064,960 of 1,500,000 tokens · 10,473/s · 0:42 left" in running.replace(
        "\u2009", " "
    )
    assert "taken over from a worker that was lost" in running
    assert "tokens: 1500000" in running and "heldout_fraction" in running
    html = httpx.get(f"{explorer}/runs/{RUNNING}", headers=HTML).text
    for name in ("FVU", "L0", "Dead latents"):
        assert f'aria-label="{name}' in html
    assert html.count('class="line null"') == 2, "the twin beside FVU and L0"
    queued = page(explorer, f"/runs/{QUEUED}")
    assert "Waits for a worker of the queue interp: it is next, none under way." in queued
    again = page(explorer, f"/runs/{AGAIN}")
    assert "An attempt failed: the judge was away" in again and "tried again soon. At 20" in again
    assert "stops at its next step" in page(explorer, f"/runs/{CANCELLING}")


def test_a_pipeline_shows_its_steps_cost_and_budget(explorer: str) -> None:
    shown = page(explorer, f"/runs/{PIPELINE}")
    for step in ("train", "index", "evaluate", "explain", "score (detection)"):
        assert step in shown
    assert "0.25 of 7.50" in shown, "what was spent, of the budgets of its judges together"
    assert "Made: demo" in shown


def test_a_failed_run_says_why_and_what_to_do(explorer: str, open_page: Any) -> None:
    """Errors, names and logs are hostile: they stay text."""
    at = open_page(f"{explorer}/runs/{FAILED}")
    failed = at.locator(".notice.failed")
    assert HOSTILE.split("\u202e")[0] in failed.inner_text()
    assert at.get_by_role("button", name="Retry").is_enabled()
    assert f"before the end: {HOSTILE[:30]}" in at.locator("[data-log]").inner_text()
    assert at.locator("main img").count() == 0
    listing = open_page(f"{explorer}/runs")
    assert listing.locator("main img").count() == 0
    assert "<img src=x" in listing.locator("main").inner_text()


def test_names_that_are_markup_stay_text(
    explorer: str, open_page: Any, module_engine: Engine
) -> None:
    name = "<b>x</b>&amp;\u202e'\""
    with transaction(module_engine) as session:
        spec = {"kind": "train", "name": name, "site": "blocks.1.hook_resid_post"}
        run = Run(kind="train", queue="gpu", state="failed", spec=spec, error=name)
        session.add(run)
        session.flush()
        run_rows.tell(session, run.id, "log", {"message": name, name: name})
        identity = run.id
    at = open_page(f"{explorer}/models")
    for path in (
        f"/runs/{identity}",
        f"/runs/{identity}/log",
        "/runs",
        f"/runs/new?from={identity}",
    ):
        at.goto(explorer + path)
        assert at.locator("main b", has_text=re.compile("^x$")).count() == 0
        assert "<b>x</b>&amp;" in at.locator("main").inner_text() + at.locator("main").evaluate(
            "main => [...main.querySelectorAll('textarea')].map(each => each.value).join()"
        )
    with transaction(module_engine) as session:
        session.delete(session.get_one(Run, identity))


def test_a_run_of_an_absent_plugin_is_shown(explorer: str, module_engine: Engine) -> None:
    odd = {"kind": "of a plugin", "name": ["no", "text"], "deep": {"a": [1]}}
    with transaction(module_engine) as session:
        run = Run(
            kind="of a plugin", queue="gpu", state="succeeded", spec=odd, result={"saes": "none"},
            progress={"done": "many", "stage": 5}, stages=[{"stage": "x", "metrics": 7}],
        )  # fmt: skip
        session.add(run)
        session.flush()
        identity = run.id
    assert "deep" in page(explorer, f"/runs/{identity}")
    assert "of a plugin" in page(explorer, "/runs")
    form = httpx.get(f"{explorer}/runs/new?from={identity}", headers=HTML)
    assert form.status_code == 200 and "no kind of run" in form.text
    with transaction(module_engine) as session:
        session.delete(session.get_one(Run, identity))


def test_warnings_of_a_run_stand_above_what_it_did(explorer: str) -> None:
    told = httpx.get(f"{explorer}/api/v1/runs/{WARNED}").json()["warnings"]
    assert len(told) == 3 and any("explains weakly" in each for each in told)
    shown = page(explorer, f"/runs/{WARNED}")
    for warning in told:
        assert shown.index(warning) < shown.index("Log")
    assert "attempt 1 of" not in shown, "it has ended"


def test_spend_is_grouped_and_budgets_are_bars(explorer: str) -> None:
    by_run = httpx.get(f"{explorer}/spend", headers=HTML).text
    assert "0.25" in by_run and "explain" in by_run
    assert re.search(r'<meter min="0" max="5.0" value="0.25"', by_run)
    for by in ("feature", "purpose", "model", "key", "day"):
        assert "0.25" in page(explorer, "/spend", by=by)
    assert "No call is like that" in page(explorer, "/spend", sae="demo", period="today", by="day")
    assert httpx.get(f"{explorer}/spend?sae=none", headers=HTML).status_code == 404


def test_health_says_what_to_mend_and_pauses_queues(explorer: str, open_page: Any) -> None:
    at = open_page(f"{explorer}/health")
    found = at.locator("#found")
    assert "MONOSEMY_REDIS_URL" in found.inner_text()
    at.get_by_role("button", name="Pause gpu").click()
    at.get_by_role("button", name="Resume gpu").wait_for()
    assert "Queue gpu is paused" in page(explorer, "/")
    at.get_by_role("button", name="Resume gpu").click()
    at.get_by_role("button", name="Pause gpu").wait_for()
    assert "/queues/gpu" in page(explorer, "/settings/audit")


def test_run_cancel_retry(explorer: str, open_page: Any, module_engine: Engine) -> None:
    """With and without script: cancelled, taken up again, put before others, deleted."""
    for script in (True, False):
        with transaction(module_engine) as session:
            run = Run(kind="train", queue="gpu", spec={"kind": "train", "name": "mine"})
            session.add(run)
            session.flush()
            identity = run.id
        at = open_page(f"{explorer}/runs/{identity}", java_script_enabled=script)
        at.get_by_label("priority").fill("7")
        at.get_by_role("button", name="Set").click()
        at.wait_for_load_state()
        holds(at.get_by_label("priority"), "7")
        at.get_by_role("button", name="Cancel").click()
        at.get_by_role("button", name="Retry").click()
        at.get_by_role("button", name="Cancel").click()
        at.get_by_role("button", name="Delete").click()
        at.wait_for_url("**/runs")
        with transaction(module_engine) as session:
            assert session.scalar(select(Run.id).where(Run.id == identity)) is None


def test_what_may_not_be_done_is_not_offered(page_settings: Settings, library: Any) -> None:
    """Controls name the scope that is missing; the same posts are refused."""
    from service.database.session import make_engine
    from service.keys.service import create_key

    secret = "a-secret-of-thirty-two-characters"
    closed = page_settings.model_copy(update={"require_keys": True, "secret": secret})
    engine = make_engine(page_settings.database_url)
    with transaction(engine) as session:
        key = create_key(session, "reader", ["read"], secret)
    engine.dispose()
    headers = {**HTML, "X-API-Key": key}
    with served(create_app(closed)) as address:
        run = httpx.get(f"{address}/runs/{QUEUED}", headers=headers)
        assert "disabled title=\"Your key lacks the scope 'run'.\"" in html.unescape(run.text)
        assert "Administrators see here" in httpx.get(f"{address}/health", headers=headers).text
        assert "disabled title" in httpx.get(f"{address}/runs/new", headers=headers).text
        assert httpx.get(f"{address}/settings/audit", headers=headers).status_code == 403
        for path in (f"/runs/{QUEUED}/cancel", "/queues/gpu", "/runs/new"):
            assert httpx.post(address + path, headers=headers).status_code == 403


def test_a_run_has_its_graphs_and_what_they_have_in_common(
    explorer: str, module_engine: Engine
) -> None:
    common = f"/graphs/common?run={AGAIN}"
    ids = [uuid.uuid4() for _ in range(2)]
    for place in (1, 0):
        with transaction(module_engine) as session:
            own = {"id": ids[place], "run": AGAIN, "place": place, "prompts": 2}
            add_graph(session, name=f"of the run {place}", prompt=f"Way {place} is", **own)
        shown = html.unescape(httpx.get(f"{explorer}/runs/{AGAIN}", headers=HTML).text)
        assert (common in shown) == (place == 0) and f"/graphs?run={AGAIN}" in shown
    assert words(shown).index("of the run 0 Way 0 is") < words(shown).index("of the run 1 Way 1 is")
    assert all(f"/graphs/{each}" in shown for each in ids)
    assert "/graphs?run=" not in httpx.get(f"{explorer}/runs/{QUEUED}", headers=HTML).text
    with transaction(module_engine) as session:
        session.execute(delete(StoredGraph).where(StoredGraph.id.in_(ids)))
