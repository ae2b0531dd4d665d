"""Progress in words, and how it is shown: bars on a terminal, whole lines elsewhere.

A bar is drawn over and over on one line, whose width must be known.  In a pipe, a log, a notebook
or a dumb terminal it is not, and on a very narrow one a bar says nothing: there each stage gets a
line when it begins and ends, and now and then between.
"""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console

LEAST_COLUMNS = 60
"""A terminal with fewer gets lines, which it wraps."""

_FIRST_SECONDS, _LONGEST_SECONDS, _SHARE = 5.0, 60.0, 0.05
"""Between two lines of a stage: at first, at most, and as a share of the time since it began."""

_UNMOVED_SECONDS = 20.0
"""The least between two lines of a stage that has not begun to count: it fills a buffer."""


def shows_bars(console: Console) -> bool:
    """Whether bars can be drawn on ``console``: a terminal of known and sufficient width."""
    if console.is_jupyter or console.is_dumb_terminal or not console.is_terminal:
        return False
    # In continuous integration colours may be asked for where there is no terminal.
    isatty = getattr(console.file, "isatty", None)
    if any(name in os.environ for name in ("FORCE_COLOR", "TTY_COMPATIBLE")) and not (
        isatty is not None and isatty()
    ):
        return False
    return console.width >= LEAST_COLUMNS


def is_due(since_last: float, since_begin: float, done: int = 1) -> bool:
    """Whether a stage that began ``since_begin`` seconds ago gets another line; one that has
    ``done`` nothing yet gets few."""
    first = _FIRST_SECONDS if done else _UNMOVED_SECONDS
    pause = min(max(first, _SHARE * since_begin), _LONGEST_SECONDS)
    return since_last >= pause


def describe(data: dict[str, Any], ended: bool = False, width: int | None = None) -> str:
    """``12,288/120,000 tokens  5,120 tokens/s  0:21 left  fvu 0.42`` of a stage's ``as_dict()``.

    Within ``width`` characters, where it is given: parts are left out, none is cut.
    """
    total = f"/{data['total']:,}" if data.get("total") else ""
    count, per_second = f"{data['done']:,}{total}", f"{_rate(data['rate'])}"
    unit = data["unit"]
    time = []
    if ended:
        time = [f"in {clock(data['elapsed_seconds'])}"]
    elif data.get("eta_seconds") is not None:
        time = [f"{clock(data['eta_seconds'])} left"]
    rates = [f"{per_second} {unit}/s", f"{per_second}/s"] if data["rate"] > 0 else []
    metrics = [f"{name} {short(value)}" for name, value in data["metrics"].items()]
    whole = [f"{count} {unit}", *rates[:1], *time]
    forms = [whole + metrics[:kept] for kept in range(len(metrics), -1, -1)]
    forms += [[f"{count} {unit}", *rates[1:], *time], [count, *rates[1:], *time], [count, *time]]
    lines = ["  ".join(parts) for parts in forms] + [count]
    return next((line for line in lines if width is None or len(line) <= width), count)


def bar_width(console: Console) -> int:
    """Columns of a bar: fewer where the terminal is narrow."""
    return 20 if console.width >= 100 else 10


def clock(seconds: float) -> str:
    """``0:21`` or ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short(value: Any) -> str:
    """A figure in three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"
