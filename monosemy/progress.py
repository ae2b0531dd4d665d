"""How long work tells of its progress, and how it learns that it should stop.

Library code takes a ``Reporter`` and knows nothing of consoles or databases.  A stage is a named
piece of work with a known total; ``advance`` is cheap and may be called on every step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from monosemy.specs.readings import TrainingReading


@dataclass
class StageProgress:
    """Where one stage stands.  ``rate`` is in units per second, ``eta`` in seconds."""

    name: str
    unit: str
    total: int | None
    done: int = 0
    started: float = field(default_factory=time.monotonic)
    resumed_at: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        return (self.done - self.resumed_at) / max(self.elapsed, 1e-9)

    @property
    def eta(self) -> float | None:
        if not self.total or self.rate <= 0:
            return None
        return max(self.total - self.done, 0) / self.rate

    def as_dict(self) -> dict[str, Any]:
        return {
            "stage": self.name,
            "unit": self.unit,
            "done": self.done,
            "total": self.total,
            "rate": round(self.rate, 3),
            "eta_seconds": None if self.eta is None else round(self.eta, 1),
            "elapsed_seconds": round(self.elapsed, 2),
            "metrics": dict(self.metrics),
        }


class Stage(Protocol):
    """A running stage, as the code that does the work sees it."""

    progress: StageProgress

    def advance(self, n: int = 1, **metrics: Any) -> None:
        """Count ``n`` more units as done, note metrics, and raise ``Stopped`` if asked to stop."""


class Reporter:
    """Reports to nobody; the base of those that report to somebody.

    Subclasses override ``update`` (called often: throttle it), ``finish``, ``log`` and what
    readings of a training they keep.
    """

    def __init__(self, should_stop: Callable[[], type[Exception] | None] | None = None) -> None:
        self._should_stop = should_stop

    def check(self) -> None:
        """Raises ``Cancelled`` or ``Interrupted`` when the work has been asked to stop."""
        if self._should_stop is not None:
            reason = self._should_stop()
            if reason is not None:
                raise reason()

    def update(self, progress: StageProgress) -> None:
        """Called whenever a stage moves."""

    def finish(self, progress: StageProgress) -> None:
        """Called once when a stage ends well."""

    def log(self, message: str, **fields: Any) -> None:
        """One line worth keeping: a warning, a figure, a decision."""

    def begin_readings(self, place: int, step: int, kept: Sequence[TrainingReading]) -> None:
        """The training of the SAE at this place begins (``step`` 0), or goes on from ``step``:
        readings past it are void, and ``kept`` are those up to it."""

    def reading(self, place: int, reading: TrainingReading) -> None:
        """A reading of the SAE at this place among those that are trained together."""

    @contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "it", done: int = 0
    ) -> Iterator[Stage]:
        """A stage of ``total`` units of which ``done`` are there already (a resumed run)."""
        self.check()
        running = _RunningStage(self, StageProgress(name, unit, total, done, resumed_at=done))
        self.update(running.progress)
        yield running
        self.finish(running.progress)


class _RunningStage:
    def __init__(self, reporter: Reporter, progress: StageProgress) -> None:
        self.reporter = reporter
        self.progress = progress

    def advance(self, n: int = 1, **metrics: Any) -> None:
        self.progress.done += n
        if metrics:
            self.progress.metrics.update(metrics)
        self.reporter.update(self.progress)
        self.reporter.check()


SILENT = Reporter()
"""Shared reporter for callers that do not care."""
