"""Following a run: over broken connections, on a terminal, in a log, and until Ctrl-C."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import typer
from rich.console import Console

from monosemy.client import runs
from monosemy.exit_codes import FAILED, UNREACHABLE
from service.cli import watch
from service.cli.client import ApiError, Client
from service.cli.faults import exit_code_of
from service.cli.following import follow
from service.cli.watch import watch_run


def progress(done: int, stage: str = "train", total: int | None = 100) -> dict[str, Any]:
    return {
        "stage": stage,
        "unit": "tokens",
        "done": done,
        "total": total,
        "rate": 10.0,
        "eta_seconds": None if total is None else (total - done) / 10,
        "elapsed_seconds": done / 10,
        "metrics": {"fvu": 0.5},
    }


EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("state", {"state": "running"}),
    *(("progress", progress(done)) for done in (10, 20, 30, 40)),
    ("stage", progress(100)),
    ("progress", progress(7, "count [x]", None)),
    ("stage", progress(9, "count [x]", None)),
    ("log", {"message": "a :smile: and [/b]\x1b[31m"}),
    ("state", {"state": "succeeded"}),
]


class Service:
    """Answers as the API does, and breaks the event stream after ``lives`` events each time, in
    the middle of the next one."""

    def __init__(self, lives: int) -> None:
        self.lives = lives
        self.resumed_after: list[str | None] = []
        self.state = "running"

    def run(self) -> dict[str, Any]:
        return {"id": "r", "kind": "train", "state": self.state, "error": None, "children": []}

    def stream(self, after: int) -> Iterator[bytes]:
        for number, (kind, data) in list(enumerate(EVENTS, 1))[after:]:
            yield f"id: {number}\n".encode()
            if number > after + self.lives:
                return
            message = {"id": number, "run_id": "r", "type": kind, "data": data}
            yield f"event: {kind}\ndata: {json.dumps(message)}\n\n".encode()
        self.state = "succeeded"


@contextmanager
def serving(service: Service) -> Iterator[Client]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            if not self.path.endswith("/events"):
                self.wfile.write(json.dumps(service.run()).encode())
                return
            last = self.headers.get("Last-Event-ID")
            service.resumed_after.append(last)
            for part in service.stream(int(last or 0)):
                self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Client(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def test_a_broken_stream_goes_on_after_the_last_whole_event() -> None:
    service = Service(lives=4)
    with serving(service) as client:
        seen = [event["id"] for event in watch.events(client, "r")]
    assert seen == list(range(1, len(EVENTS) + 1))
    assert service.resumed_after == [None, "4", "8"]


def test_a_log_gets_a_line_now_and_then_and_one_for_each_finished_stage() -> None:
    file = io.StringIO()
    with serving(Service(lives=99)) as client:
        ended = watch_run(client, "r", Console(file=file, width=60))
    assert ended["state"] == "succeeded"
    assert file.getvalue().splitlines() == [
        "train running",
        "train: 10/100 tokens  10 tokens/s  0:09 left  fvu 0.5",
        "train: 100/100 tokens  10 tokens/s  in 0:10  fvu 0.5",
        "train count [x]: 7 tokens  10 tokens/s  fvu 0.5",
        "train count [x]: 9 tokens  10 tokens/s  in 0:01  fvu 0.5",
        "train: a :smile: and [/b]\ufffd[31m",
        "train succeeded",
    ]


def test_a_terminal_gets_one_bar_for_each_stage() -> None:
    file = io.StringIO()
    console = Console(file=file, width=120, force_terminal=True, color_system=None)
    with serving(Service(lives=99)) as client:
        watch_run(client, "r", console)
    first, second = file.getvalue().splitlines()[-3:-1]
    assert "━" in first
    assert "100/100 tokens  10 tokens/s  in 0:10  fvu 0.5" in first
    assert "count [x]" in second
    assert "\x1b[31m" not in file.getvalue()


def test_a_service_that_stays_away_ends_the_watching(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(runs, "GIVE_UP_SECONDS", 0.2)
    service = Service(lives=1)
    with serving(service) as client:
        following = watch.events(client, "r")
        assert next(following)["id"] == 1
    with pytest.raises(ApiError, match="does not answer") as caught:
        list(following)
    assert exit_code_of(caught.value) == UNREACHABLE
    assert "trying again" in capsys.readouterr().err


def test_score_runs_are_told_apart_by_their_scorers() -> None:
    step = {"kind": "score", "spec": {"scoring": {"scorer": "embedding"}}}
    called = watch._called(step)
    assert called == "score embedding"
    assert watch._name(called, progress(1, "score")) == "score embedding"
    assert watch._title(called, progress(1, "score")).split() == ["score", "embedding"]
    assert watch._called({"kind": "score", "spec": {}}) == "score"
    assert watch._called({"kind": "train"}) == "train"
    assert watch._title("train", progress(1)).split() == ["train"]


class Failing(Service):
    """A run whose step, if it has one, fails, and which fails with it."""

    def __init__(self, state: str, error: str, step: bool) -> None:
        super().__init__(lives=99)
        self.ended, self.error, self.step = state, error, step

    def run(self) -> dict[str, Any]:
        done = self.state == "succeeded"
        state, error = (self.ended, self.error) if done else ("running", None)
        child = {"id": "s", "kind": "train", "state": state, "error": error, "spec": {}}
        own = f"train: {error}" if error and self.step else error
        return {
            "id": "r",
            "kind": "pipeline" if self.step else "import",
            "state": state,
            "error": own,
            "children": [child] if self.step else [],
        }

    def stream(self, after: int) -> Iterator[bytes]:
        events: list[tuple[str, dict[str, Any]]] = [("r", {"state": "running"})]
        if self.step:
            events.append(("s", {"state": self.ended, "error": self.error}))
        own = f"train: {self.error}" if self.step else self.error
        events.append(("r", {"state": self.ended, "error": own}))
        for number, (run, data) in list(enumerate(events, 1))[after:]:
            message = {"id": number, "run_id": run, "type": "state", "data": data}
            yield f"id: {number}\nevent: state\ndata: {json.dumps(message)}\n\n".encode()
        self.state = "succeeded"


@pytest.mark.parametrize("step", [False, True])
@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ("failed", "no room on the disk", "no room on the disk"),
        ("cancelled", "cancelled before it started", "cancelled before it started"),
        ("cancelled", "cancelled", "cancelled"),
    ],
)
def test_why_a_run_ended_is_told_once(
    state: str, error: str, message: str, step: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Failing(state, error, step)) as client, pytest.raises(typer.Exit) as ended:
        follow(client, "r", as_json=False)
    assert ended.value.exit_code == FAILED
    printed = capsys.readouterr()
    assert f"{state}: {state}" not in printed.out + printed.err
    if state == "failed":
        assert (printed.out + printed.err).count(message) == 1
        assert (message in printed.out) is step
    assert len(printed.err.strip().splitlines()) == 1
    # Who comes when all is over is told all of it at the end.
    late = Failing(state, error, step)
    late.state = "succeeded"
    with serving(late) as client, pytest.raises(typer.Exit):
        follow(client, "r", as_json=False)
    printed = capsys.readouterr()
    assert message in printed.err and printed.out == ""


def test_machines_get_the_reason_on_both_sides(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Failing("failed", "no room", True)) as client, pytest.raises(typer.Exit):
        follow(client, "r", as_json=True)
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [line["data"].get("error") for line in lines] == [
        None,
        "no room",
        "train: no room",
        "train: no room",
    ]
    assert printed.err.strip() == "The run failed: train: no room"
