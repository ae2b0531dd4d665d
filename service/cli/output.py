"""Output of commands: results on standard output, everything else on standard error."""

from __future__ import annotations

import datetime as dt
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from monosemy.exit_codes import FAILED, INTERRUPTED
from service.cli.faults import fault_of

JsonFlag = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else.")]

# Without emoji: ":x:" in somebody's text is not a cross.
out = Console(emoji=False)
err = Console(stderr=True, emoji=False)

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of what follows."""
_PIPED_WIDTH = 500
"""Columns of a table that no terminal shows: wide enough that nothing is cut off."""

P = ParamSpec("P")
R = TypeVar("R")


def print_json(value: Any) -> None:
    """Prints for programs: one JSON document."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n")


def print_json_line(value: Any) -> None:
    """Prints for programs that read a stream: one JSON document on one line, at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """Prints for people.  Cells are text, never markup; the first column is never cut off."""
    table = Table(title=Text(printable(title)) if title else None, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, no_wrap=place == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable("" if cell is None else str(cell))) for cell in row))
    piped = not out.is_terminal and "COLUMNS" not in os.environ
    (Console(emoji=False, width=_PIPED_WIDTH) if piped else out).print(table)


def printable(text: str) -> str:
    """``text`` without the characters that a terminal would obey, those of direction too; line ends
    stay."""
    return _CONTROLS.sub("\ufffd", text)


def plain(text: str) -> str:
    """Somebody's text as rich markup that shows it as it is."""
    return escape(printable(text))


def number(value: Any, how: str) -> str:
    """A figure as text; empty where there is none."""
    return format(value, how) if isinstance(value, int | float) else ""


def estimate(figure: Mapping[str, Any] | None) -> str:
    """A share with its interval; "-" where there is none."""
    if figure is None or figure["value"] is None:
        return "-"
    return f"{figure['value']:.2f} ({figure['low']:.2f}-{figure['high']:.2f})"


def moment(time: str) -> str:
    """A time as the API gives it, for people: to the minute, in UTC."""
    then = dt.datetime.fromisoformat(time).astimezone(dt.UTC)
    return f"{then:%Y-%m-%d %H:%M} UTC"


def tell(text: str) -> None:
    """Prints a result that is no table on standard output."""
    out.print(printable(text), highlight=False, markup=False, soft_wrap=True)


def say(text: str) -> None:
    """Prints a message on standard error."""
    err.print(printable(text), highlight=False, markup=False, soft_wrap=True)


def fail(text: str, code: int = FAILED) -> NoReturn:
    """Ends the command with one line on standard error and an exit code other than 0."""
    say(text)
    raise typer.Exit(code)


def readable_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turns errors that the user can mend into a line on standard error and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:
            raise  # whoever read the output has seen enough
        except KeyboardInterrupt:
            fail("Interrupted.", INTERRUPTED)
        except Exception as error:
            fault = fault_of(error)
            if fault is None:
                raise
            fail(*fault)

    return run
