"""Runs in every state, under ids that tests know: rows without workers behind them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy.orm import Session

from monosemy.specs import parse_spec
from service.database.judge_tables import JudgeCall
from service.database.tables import Run, RunEvent, TrainingReading
from tests.support.library_rows import Library

RUNNING = uuid.UUID(int=0xA1)
QUEUED = uuid.UUID(int=0xA2)
FAILED = uuid.UUID(int=0xA3)
PIPELINE = uuid.UUID(int=0xA4)
CANCELLING = uuid.UUID(int=0xA5)
AGAIN = uuid.UUID(int=0xA6)
WARNED = uuid.UUID(int=0xA7)
STEPS = [uuid.UUID(int=0xB0 + place) for place in range(6)]

HOSTILE = '<img src=x onerror=alert(1)></script>\u202ereversed\u202c"; drop \x1b[31m {{ 7 * 7 }}'
"""What a name, an error or a line of a log may bring."""
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def stage(name: str, done: int, total: int | None, **more: Any) -> dict[str, Any]:
    """As ``StageProgress.as_dict`` writes it."""
    return {
        "stage": name,
        "unit": "tokens",
        "done": done,
        "total": total,
        "rate": 10_473.2,
        "eta_seconds": 41.6,
        "elapsed_seconds": 101.0,
        "metrics": {"fvu": 0.21},
        **more,
    }


def add_runs(session: Session, library: Library) -> None:
    train = {"kind": "train", "name": "wide", "training": {"tokens": 1_500_000}}
    running = {"state": "running", "attempt": 1, "started_at": NOW, "lease_owner": "worker"}
    add_run(session, RUNNING, train, **running, progress=stage("train", 1_064_960, 1_500_000))
    for step in range(30):
        reading = {
            "tokens": 2048 * (step + 1),
            "step": 10 * step,
            "fvu": 1 / (step + 2),
            "l0": 32.0,
            "dead_share": 0.001 * step,
            "terms": {},
            "frozen_decoder_baseline": {"fvu": 0.7, "l0": 32.0, "terms": {}},
        }
        row = TrainingReading(run_id=RUNNING, place=0, step=10 * step, reading=reading)
        session.add(row)
    explain = {"kind": "explain", "sae": library.name}
    add_run(session, QUEUED, explain)
    failed = {
        "state": "failed",
        "attempt": 3,
        "started_at": NOW,
        "finished_at": NOW,
        "error": HOSTILE,
    }
    add_run(session, FAILED, {"kind": "evaluate", "sae": library.name}, **failed)
    add_run(session, CANCELLING, train, state="cancelling", attempt=1, started_at=NOW)
    tried = {"error": "the judge was away", "attempt": 1, "started_at": NOW}
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    add_run(session, AGAIN, explain, not_before=later, **tried)
    test = {"role": "explaining", "accuracy": 0.325, "low": 0.2, "high": 0.48, "n": 40}
    doubtful = {
        "judge_test": {**test, "n_failed": 13, "chance": 0.15, "verdict": "weak"},
        "warnings": ["The model that explains is the host model itself, tiny."],
        "failed": 2,
        "failures": {"3": "It repeats the words.", "4": "It repeats the words."},
    }
    ended = {"state": "succeeded", "attempt": 1, "started_at": NOW, "finished_at": NOW}
    add_run(session, WARNED, {"kind": "explain", "sae": library.name}, **ended, result=doubtful)
    budget = {"kind": "pipeline", "name": "whole", "explanation": {"judge": {"budget": 5.0}}}
    whole = parse_spec({**budget, "scoring": [{"judge": {"budget": 2.5}}]})
    add_run(session, PIPELINE, whole.model_dump(mode="json"), state="running", started_at=NOW)
    done = {"state": "succeeded", "attempt": 1, "started_at": NOW, "finished_at": NOW}
    for place, step in enumerate(whole.steps()):
        spec = step.spec.model_dump(mode="json")
        columns: dict[str, Any] = {"parent_id": PIPELINE, "position": place + 1}
        if place == 0:
            columns |= done | {"stages": [stage("train", 99, 99)], "result": _made(library)}
        elif place == 1:
            columns |= {**running, "progress": stage("index", 40, None, unit="features")}
        else:
            columns["depends_on"] = STEPS[0 if step.after is None else step.after]
        add_run(session, STEPS[place], spec, **columns)
    tell(session, FAILED, "log", {"message": f"before the end: {HOSTILE}", "count": 9})
    tell(session, FAILED, "state", {"state": "failed", "from": "running", "error": HOSTILE})
    tell(session, RUNNING, "state", {"state": "running", "attempt": 1, "takeover": True})
    call = {"purpose": "default", "model": "judge", "state": "answered", "prompt_tokens": 900}
    session.add(JudgeCall(run_id=STEPS[3], feature=3, cost=0.25, completion_tokens=90, **call))
    session.flush()


def add_run(session: Session, id: uuid.UUID, spec: dict[str, Any], **columns: Any) -> Run:
    """A run of this spec, defaults filled in, with the event of its submission."""
    whole = parse_spec(spec)
    values = {"kind": whole.kind, "queue": whole.queue, "state": "queued", **columns}
    run = Run(id=id, spec=whole.model_dump(mode="json"), **values)
    session.add(run)
    session.flush()
    tell(session, id, "state", {"state": "queued", "kind": whole.kind})
    return run


def tell(session: Session, run: uuid.UUID, type_: str, data: dict[str, Any]) -> int:
    """The id of an event of the run."""
    event = RunEvent(run_id=run, type=type_, data=data)
    session.add(event)
    session.flush()
    return event.id


def _made(library: Library) -> dict[str, Any]:
    return {"sae_id": str(library.sae), "name": library.name, "metrics": {}}
