"""Progress in a real pipe, on real terminals of several widths, and in a notebook."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from typing import Any

import pytest
from rich.console import Console

from monosemy import console as console_module
from monosemy.console import ConsoleReporter
from monosemy.progress_text import describe, is_due, shows_bars

WORK = """
import time
from monosemy.console import reporting
with reporting(None) as shown:
    with shown.stage("effective L0", 1_500_000, "tokens") as stage:
        for _ in range(300):
            time.sleep(0.001)
            stage.advance(5_000, fvu=0.1642781, l0=32.0, dead=0.0123, learning_rate=0.002)
    shown.log("text [b]is[/b] tokenised :smile:", tokens=1_500_000)
"""


def environment(**more: str) -> dict[str, str]:
    plain = {
        name: value
        for name, value in os.environ.items()
        if name not in ("COLUMNS", "LINES", "FORCE_COLOR", "TTY_COMPATIBLE", "TERM")
    }
    return {**plain, "TERM": "xterm", **more}


def in_a_pipe(**more: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", WORK], capture_output=True, text=True, env=environment(**more)
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


def on_a_terminal(columns: int, **more: str) -> str:
    """What a terminal of so many columns is sent."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    running = subprocess.Popen(
        [sys.executable, "-c", WORK],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(**more),
    )
    os.close(theirs)
    sent = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        sent += piece
    os.close(ours)
    assert running.wait(60) == 0, sent
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", sent.decode()).replace("\r\n", "\n")


def assert_whole(lines: list[str]) -> None:
    assert lines[0] == "effective L0: 0/1,500,000 tokens"
    assert re.fullmatch(
        r"effective L0: 1,500,000/1,500,000 tokens  [\d,]+ tokens/s  in 0:0\d  fvu 0\.164  l0 32"
        r"  dead 0\.0123  learning_rate 0\.002",
        lines[-2],
    ), lines
    assert lines[-1] == "text [b]is[/b] tokenised :smile: tokens=1500000"
    assert len(lines) == 3 and "\u2026" not in "".join(lines)


@pytest.mark.parametrize(
    "variables",
    [{}, {"COLUMNS": "20"}, {"COLUMNS": "0"}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}],
    ids=str,
)
def test_a_pipe_gets_whole_lines(variables: dict[str, str]) -> None:
    assert_whole(in_a_pipe(**variables))


def test_a_narrow_or_dumb_terminal_gets_whole_lines() -> None:
    for columns, term in ((20, "xterm"), (80, "dumb")):
        assert_whole(on_a_terminal(columns, TERM=term).splitlines())


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_a_terminal_gets_a_bar_that_fits(columns: int) -> None:
    last = [line for line in on_a_terminal(columns).splitlines() if "\u2501" in line][-1]
    drawn = last.rsplit("\r", 1)[-1]
    assert len(drawn.rstrip()) <= columns
    assert "effective L0" in drawn and "\u2026" not in drawn
    assert re.search(r"1,500,000/1,500,000.*in 0:0\d", drawn)
    if columns >= 80:
        assert re.search(r"  [\d,]+( tokens)?/s  in 0:0\d", drawn)


def test_a_notebook_gets_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    notebook = Console(width=115)
    notebook.is_jupyter = True  # as rich finds itself there
    reporter = ConsoleReporter(notebook)
    with reporter.stage("train", 100, "tokens") as stage:
        stage.advance(100, fvu=0.5)
    reporter.log("done")
    reporter.close()
    shown = capsys.readouterr()
    assert shown.err == ""
    first, last, note = shown.out.splitlines()
    assert first == "train: 0/100 tokens" and note == "done"
    assert re.fullmatch(r"train: 100/100 tokens  [\d,]+ tokens/s  in 0:00  fvu 0\.5", last)


def test_lines_come_at_sensible_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an hour's stage that moves every second: the first minute is followed closely, then a
    line a minute; by a clock of the test's own."""
    now = [0.0]
    monkeypatch.setattr(console_module.time, "monotonic", lambda: now[0])
    file = io.StringIO()
    reporter = ConsoleReporter(Console(file=file))
    with reporter.stage("train", 3600, "tokens") as stage:
        stage.progress.started = 0.0
        for _ in range(3600):
            now[0] += 1.0
            stage.advance(1)
    lines = file.getvalue().splitlines()
    assert 60 <= len(lines) <= 120
    assert all(re.match(r"train: [\d,]+/3,600 tokens", line) for line in lines)
    assert lines[1] == "train: 5/3,600 tokens  1.00 tokens/s  59:55 left"


def test_when_a_line_is_due() -> None:
    assert not is_due(4.9, 4.9) and is_due(5.0, 5.0)
    assert not is_due(29, 600) and is_due(30, 600)
    assert not is_due(59, 1e6) and is_due(60, 1e6)


DATA: dict[str, Any] = {
    "stage": "train",
    "unit": "tokens",
    "done": 12_288,
    "total": 120_000,
    "rate": 5120.4,
    "eta_seconds": 21.2,
    "elapsed_seconds": 2.4,
    "metrics": {"fvu": 0.42, "name": "x"},
}


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (None, "12,288/120,000 tokens  5,120 tokens/s  0:21 left  fvu 0.42  name x"),
        (60, "12,288/120,000 tokens  5,120 tokens/s  0:21 left  fvu 0.42"),
        (50, "12,288/120,000 tokens  5,120 tokens/s  0:21 left"),
        (46, "12,288/120,000 tokens  5,120/s  0:21 left"),
        (34, "12,288/120,000  5,120/s  0:21 left"),
        (30, "12,288/120,000  0:21 left"),
        (3, "12,288/120,000"),
    ],
)
def test_parts_are_left_out_and_none_is_cut(width: int | None, text: str) -> None:
    assert describe(DATA, width=width) == text


def test_where_bars_are_drawn() -> None:
    def terminal(**options: Any) -> Console:
        return Console(file=io.StringIO(), force_terminal=True, **options)

    assert shows_bars(terminal(width=80))
    assert not shows_bars(terminal(width=59))
    assert not shows_bars(Console(file=io.StringIO(), width=200))
    assert not shows_bars(terminal(width=80, _environ={"TERM": "dumb"}))


def test_a_file_without_letters_of_ours_is_written_to() -> None:
    raw = io.BytesIO()
    reporter = ConsoleReporter(Console(file=io.TextIOWrapper(raw, "ascii", write_through=True)))
    reporter.log("caf\u00e9")
    assert raw.getvalue() == b"caf?\n"
