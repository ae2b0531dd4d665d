"""Workers as they run in earnest: processes of their own that can be killed."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import Engine

from service.database.tables import Run
from service.settings import Settings
from tests.support import run_acts as acts
from tests.support.child_process import ChildProcess
from tests.support.patience import wait_for

_ROOT = Path(__file__).parents[2]

PATIENCE = 90.0
"""Seconds for a step that takes a few: other tests may be using the machine."""
LONGER = 250_000
"""Tokens that take some seconds."""


def longer(spec: dict[str, Any]) -> dict[str, Any]:
    """Some seconds of training, a checkpoint about every third of one."""
    more = {"tokens": LONGER, "checkpoint_seconds": 0.3}
    return {**spec, "training": {**spec["training"], **more}}


class WorkerProcess(ChildProcess):
    """``python -m workers.<queue>``; what is still running when the block ends is killed."""

    def __init__(self, queue: str, settings: Settings, **environment: str) -> None:
        self.queue = queue
        variables = {
            name: value for name, value in os.environ.items() if not name.startswith("MONOSEMY_")
        }
        fields = settings.model_dump(
            include={
                *("home", "database_url", "redis_url", "judge_url", "judge_model"),
                "judge_timeout",
                *("lease_seconds", "poll_seconds"),
            },
            exclude_none=True,
        )
        variables |= {f"MONOSEMY_{key.upper()}": str(fields[key]) for key in fields}
        variables |= environment
        log = settings.home / f"worker-{queue}-{time.monotonic_ns()}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", f"workers.{queue}"]
        super().__init__(command, log, cwd=_ROOT, env=variables)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, at)
        if error is not None:
            error.add_note(f"log of the {self.queue} worker:\n{self.log[-3000:]}")

    def signal(self, which: signal.Signals) -> None:
        """Sends a signal that does not end it."""
        self._process.send_signal(which)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, *signals: signal.Signals) -> int:
        """Sends the signals in this order; the exit code."""
        for each in signals:
            self._process.send_signal(each)
        return self._process.wait(timeout=30)

    def drain(self) -> tuple[int, float]:
        """SIGTERM, as a supervisor sends it; the exit code and the seconds it took."""
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout=30)
        return code, time.monotonic() - began


def checkpoints(settings: Settings, run: uuid.UUID) -> list[Path]:
    return sorted((settings.artifacts / "runs" / str(run)).glob("step-*"))


def resumed_steps(engine: Engine, run: uuid.UUID) -> list[int]:
    logged = acts.events(engine, run, "log")
    return [line["step"] for line in logged if line["message"] == "resumed from a checkpoint"]


def wait_for_state(engine: Engine, run: uuid.UUID, state: str, patience: float = PATIENCE) -> Run:
    """Fails at once, with its reason, when the run ends otherwise."""

    def reached() -> Run | None:
        loaded = acts.load(engine, run)
        assert loaded.state == state or loaded.finished_at is None, (
            f"{loaded.state}: {loaded.error}"
        )
        return loaded if loaded.state == state else None

    ended_run: Run = wait_for(reached, patience, 0.1)
    return ended_run
