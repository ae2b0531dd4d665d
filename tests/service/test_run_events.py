"""Server-sent events: order, resuming, steps, late commits, heartbeat, the end."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from service.app import create_app
from service.database.session import transaction
from service.database.tables import Run, RunEvent
from service.runs import events_stream
from service.runs.events_stream import EventFeed, event_stream
from service.settings import Settings

pytestmark = pytest.mark.integration


def add_run(engine: Engine, state: str = "running", parent: uuid.UUID | None = None) -> uuid.UUID:
    with transaction(engine) as session:
        run = Run(kind="train", queue="gpu", state=state, spec={}, parent_id=parent)
        session.add(run)
        session.flush()
        return run.id


def add_event(engine: Engine, run: uuid.UUID, kind: str = "log", **data: Any) -> int:
    with transaction(engine) as session:
        event = RunEvent(run_id=run, type=kind, data=data)
        session.add(event)
        session.flush()
        return event.id


def finish(engine: Engine, run: uuid.UUID, state: str = "succeeded") -> int:
    with transaction(engine) as session:
        session.get_one(Run, run).state = state
        event = RunEvent(run_id=run, type="state", data={"state": state})
        session.add(event)
        session.flush()
        return event.id


def parse(stream: str) -> list[dict[str, Any]]:
    """Events of a text/event-stream, comments and retry lines left out."""
    events = []
    for block in stream.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")
        )
        if "data" in fields:
            events.append({**fields, "data": json.loads(fields["data"])})
    return events


def test_a_finished_run_is_told_whole_and_the_stream_ends(
    client: TestClient, engine: Engine
) -> None:
    run = add_run(engine)
    ids = [add_event(engine, run, "progress", done=n) for n in range(3)]
    ids.append(finish(engine, run))
    answer = client.get(f"/api/v1/runs/{run}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = parse(answer.text)
    assert [int(event["id"]) for event in events] == ids
    assert [event["event"] for event in events] == ["progress"] * 3 + ["state"]
    assert events[1]["data"]["data"] == {"done": 1}
    assert events[1]["data"]["run_id"] == str(run)


def test_resuming_gives_what_came_after(client: TestClient, engine: Engine) -> None:
    run = add_run(engine)
    ids = [add_event(engine, run, n=n) for n in range(4)]
    ids.append(finish(engine, run))
    url = f"/api/v1/runs/{run}/events"
    by_header = client.get(url, headers={"Last-Event-ID": str(ids[1])})
    assert [int(event["id"]) for event in parse(by_header.text)] == ids[2:]
    by_query = client.get(url, params={"after": ids[3]})
    assert [int(event["id"]) for event in parse(by_query.text)] == ids[4:]
    assert client.get(url, headers={"Last-Event-ID": str(ids[-1])}).status_code == 204


@pytest.mark.parametrize("bad", ["x", "-1", "1.5", str(2**63)])
def test_a_bad_event_id_is_a_problem(client: TestClient, engine: Engine, bad: str) -> None:
    run = add_run(engine, "succeeded")
    answer = client.get(f"/api/v1/runs/{run}/events", headers={"Last-Event-ID": bad})
    assert answer.status_code == 422


def test_a_pipeline_tells_of_its_steps_and_of_no_other_run(
    client: TestClient, engine: Engine
) -> None:
    parent, stranger = add_run(engine), add_run(engine)
    children = [add_run(engine, parent=parent) for _ in range(2)]
    wanted = [add_event(engine, parent, n=0), add_event(engine, children[0], n=1)]
    add_event(engine, stranger, n=2)
    wanted += [finish(engine, children[0]), finish(engine, children[1]), finish(engine, parent)]
    events = parse(client.get(f"/api/v1/runs/{parent}/events").text)
    assert [int(event["id"]) for event in events] == wanted


def test_more_events_than_a_batch(
    client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_stream, "BATCH", 10)
    run = add_run(engine)
    ids = [add_event(engine, run, n=n) for n in range(37)]
    ids.append(finish(engine, run))
    events = parse(client.get(f"/api/v1/runs/{run}/events").text)
    assert [int(event["id"]) for event in events] == ids


def test_an_event_that_commits_late_is_not_lost(engine: Engine) -> None:
    """Its id lies below one that was given out already."""
    run = add_run(engine)
    slow = Session(engine)
    late = RunEvent(run_id=run, type="log", data={"who": "late"})
    slow.add(late)
    slow.flush()
    feed = EventFeed(engine, run)
    early = add_event(engine, run, who="early")
    events, _ = feed.poll()
    assert [event.id for event in events] == [early]
    assert late.id < early
    slow.commit()
    events, _ = feed.poll()
    assert [event.data["who"] for event in events] == ["late"]
    assert feed.poll()[0] == []
    slow.close()


def test_a_late_event_does_not_move_the_place_to_resume_from(engine: Engine) -> None:
    run = add_run(engine)

    async def collect() -> list[str]:
        chunks: list[str] = []
        slow = Session(engine)
        slow.add(RunEvent(run_id=run, type="log", data={"who": "late"}))
        slow.flush()
        add_event(engine, run, who="early")
        async for chunk in event_stream(engine, run, 0, poll_seconds=0.05):
            chunks.append(chunk)
            if "early" in chunk:
                slow.commit()
                slow.close()
            if "late" in chunk:
                finish(engine, run)
        return chunks

    chunks = asyncio.run(asyncio.wait_for(collect(), 20))
    (late,) = [chunk for chunk in chunks if '"late"' in chunk]
    assert "id:" not in late.split("data:")[0]
    assert [chunk.startswith("id: ") for chunk in chunks if "data:" in chunk].count(True) == 2


def test_a_retried_run_is_followed_through_its_first_failure(engine: Engine) -> None:
    """The end is the run's state now, not the first event that looks like one."""
    run = add_run(engine)
    finish(engine, run, "failed")
    with transaction(engine) as session:
        session.get_one(Run, run).state = "running"
    feed = EventFeed(engine, run)
    events, ended = feed.poll()
    assert [event.data["state"] for event in events] == ["failed"]
    assert not ended
    finish(engine, run, "succeeded")
    events, ended = feed.poll()
    assert [event.data["state"] for event in events] == ["succeeded"]
    assert ended


def test_the_window_of_remembered_ids_stays_small(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_stream, "GRACE_SECONDS", 0.05)
    run = add_run(engine)
    feed = EventFeed(engine, run)
    for _ in range(5):
        add_event(engine, run)
        feed.poll()
        time.sleep(0.1)
        feed.poll()
        assert len(feed._given) == 0


def test_a_silent_run_sends_heartbeats(engine: Engine) -> None:
    run = add_run(engine)

    async def listen() -> list[str]:
        chunks: list[str] = []
        async for chunk in event_stream(engine, run, 0, 0.02, heartbeat_seconds=0.05):
            chunks.append(chunk)
            if chunks.count(": alive\n\n") == 3:
                finish(engine, run)
        return chunks

    chunks = asyncio.run(asyncio.wait_for(listen(), 20))
    assert parse("".join(chunks))[-1]["data"]["data"] == {"state": "succeeded"}


@pytest.fixture
def server(settings: Settings) -> Iterator[str]:
    """The app on a real port: a test client would gather the stream before showing it."""
    config = uvicorn.Config(
        create_app(settings), host="127.0.0.1", port=0, log_config=None, lifespan="on"
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        time.sleep(0.02)
    port = running.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    running.should_exit = True
    thread.join(20)


def test_events_arrive_while_they_happen(server: str, engine: Engine) -> None:
    run = add_run(engine)
    first = add_event(engine, run, n=1)
    seen: list[int] = []
    with httpx.stream("GET", f"{server}/api/v1/runs/{run}/events", timeout=20) as stream:
        for line in stream.iter_lines():
            if line.startswith("id: "):
                seen.append(int(line[4:]))
                if len(seen) == 1:
                    second = add_event(engine, run, n=2)
                elif len(seen) == 2:
                    last = finish(engine, run)
    assert seen == [first, second, last]


def test_a_listener_that_leaves_frees_its_connection(server: str, engine: Engine) -> None:
    run = add_run(engine)
    add_event(engine, run, n=1)
    for _ in range(30):  # more than the pool has
        with httpx.stream("GET", f"{server}/api/v1/runs/{run}/events", timeout=20) as stream:
            next(stream.iter_lines())
    assert httpx.get(f"{server}/api/v1/runs/{run}", timeout=20).status_code == 200
    finish(engine, run)
