"""Output of commands: results on standard output, everything else on standard error."""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from monosemy.errors import MonosemyError, SpecError
from service.cli.client import FAILED, USAGE, ApiError, exit_code_of

EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 bad usage or spec, 3 service unreachable, 4 not found, "
    "130 interrupted."
)

JsonFlag = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else.")]

# Without emoji: ":x:" in somebody's text is not a cross.
out = Console(emoji=False)
err = Console(stderr=True, emoji=False)

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
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
    """``text`` without the control characters that a terminal would obey; line ends stay."""
    return _CONTROLS.sub("\ufffd", text)


def plain(text: str) -> str:
    """Somebody's text as rich markup that shows it as it is."""
    return escape(printable(text))


def number(value: Any, how: str) -> str:
    """A figure as text; empty where there is none."""
    return format(value, how) if isinstance(value, int | float) else ""


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
        except ApiError as error:
            fail(str(error), exit_code_of(error))
        except SpecError as error:
            fail(
                "\n".join(f"{path}: {text}" if path else text for path, text in error.problems),
                USAGE,
            )
        except MonosemyError as error:
            fail(str(error))
        except ValidationError as error:
            if error.title != "Settings":
                raise
            fail("\n".join(_setting_fault(item) for item in error.errors()), USAGE)
        except UnicodeEncodeError:
            fail("An argument or a text holds bytes that are no UTF-8.", USAGE)
        except BrokenPipeError:
            raise  # whoever read the output has seen enough
        except OSError as error:
            fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except KeyboardInterrupt:
            fail("Interrupted.", 130)

    return run


def _setting_fault(item: Any) -> str:
    name = ".".join(str(part) for part in item["loc"]).upper()
    return f"MONOSEMY_{name}: {item['msg']}, not {item['input']!r}"
