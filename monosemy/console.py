"""Progress on a terminal, in a pipe or in a notebook, for work that runs in this process."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from monosemy.progress import Reporter, StageProgress
from monosemy.progress_text import bar_width, describe, is_due, shows_bars

_NAME = 12
"""Columns of a stage's name."""


@contextmanager
def reporting(reporter: Reporter | None) -> Iterator[Reporter]:
    """``reporter``, or one that shows progress here and ends with the block."""
    if reporter is not None:
        yield reporter
        return
    console = ConsoleReporter()
    try:
        yield console
    finally:
        console.close()


class ConsoleReporter(Reporter):
    """Each stage with its rate, time left and latest metrics: a bar, or lines where the width is
    not known (``monosemy.progress_text``)."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        console = console or Console(stderr=True)
        self._view: _View = _Bars(console) if shows_bars(console) else _Lines(console)

    def update(self, progress: StageProgress) -> None:
        self._view.show(progress, False)

    def finish(self, progress: StageProgress) -> None:
        self._view.show(progress, True)

    def log(self, message: str, **fields: Any) -> None:
        detail = " ".join(f"{key}={value}" for key, value in fields.items())
        self._view.say(f"{message} {detail}".rstrip())

    def close(self) -> None:
        """Ends the live display; call it when the work is over, however it ended."""
        self._view.close()


class _View(Protocol):
    def show(self, progress: StageProgress, ended: bool) -> None: ...

    def say(self, line: str) -> None: ...

    def close(self) -> None: ...


class _Bars:
    """One bar per stage."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=bar_width(console)),
            TextColumn("{task.fields[text]}"),
            console=console,
            refresh_per_second=4,
        )
        self._tasks: dict[int, TaskID] = {}

    def show(self, progress: StageProgress, ended: bool) -> None:
        if not self._tasks:
            self._progress.start()
        task = self._tasks.get(id(progress))
        if task is None:
            name = escape(f"{progress.name:<{_NAME}}")
            task = self._progress.add_task(name, total=progress.total, text="")
            self._tasks[id(progress)] = task
        taken = max(_NAME, len(progress.name)) + bar_width(self._console) + 3
        text = describe(progress.as_dict(), ended, self._console.width - taken)
        # An ended stage has a full bar, also when its total was unknown or an estimate.
        total = progress.done or 1 if ended else progress.total
        done = total if ended else progress.done
        self._progress.update(task, completed=done, total=total, text=escape(text))

    def say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


class _Lines:
    """A line when a stage begins and ends, and now and then between."""

    def __init__(self, console: Console) -> None:
        # A notebook shows what goes to standard error as if something were wrong.
        self._file = sys.stdout if console.is_jupyter else console.file
        self._last: dict[int, float] = {}

    def show(self, progress: StageProgress, ended: bool) -> None:
        now, key = time.monotonic(), id(progress)
        last = self._last.get(key)
        if not ended and last is not None and not is_due(now - last, progress.elapsed):
            return
        self._last[key] = now
        self.say(f"{progress.name}: {describe(progress.as_dict(), ended)}")

    def say(self, line: str) -> None:
        encoding = getattr(self._file, "encoding", None) or "utf-8"
        line = line.encode(encoding, "replace").decode(encoding, "replace")
        self._file.write(f"{line}\n")
        self._file.flush()

    def close(self) -> None:
        """Nothing is left to end."""
