"""Progress bars on a terminal or in a notebook, for work that runs in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from monosemy.progress import Reporter, StageProgress


@contextmanager
def reporting(reporter: Reporter | None) -> Iterator[Reporter]:
    """``reporter``, or bars on the terminal that end with the block."""
    if reporter is not None:
        yield reporter
        return
    shown = ConsoleReporter()
    try:
        yield shown
    finally:
        shown.close()


class ConsoleReporter(Reporter):
    """Draws one bar per stage with rate, time left and the latest metrics."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._progress = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}", style="dim"),
            console=console or Console(stderr=True),
        )
        self._tasks: dict[int, TaskID] = {}

    def update(self, progress: StageProgress) -> None:
        if not self._tasks:
            self._progress.start()
        task = self._tasks.get(id(progress))
        if task is None:
            task = self._progress.add_task(
                progress.name, total=progress.total, rate="", metrics="", completed=progress.done
            )
            self._tasks[id(progress)] = task
        self._progress.update(
            task,
            completed=progress.done,
            rate=f"{progress.rate:,.0f} {progress.unit}/s",
            metrics=" ".join(f"{k} {_short(v)}" for k, v in progress.metrics.items()),
        )

    def log(self, message: str, **fields: Any) -> None:
        detail = " ".join(f"{key}={value}" for key, value in fields.items())
        self._progress.console.print(f"{message} {detail}".rstrip(), highlight=False)

    def close(self) -> None:
        """Ends the live display; call it when the work is over, however it ended."""
        self._progress.stop()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
