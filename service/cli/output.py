"""How commands speak: results on standard output, everything else on standard error."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from monosemy.errors import MonosemyError, SpecError
from service.cli.client import FAILED, USAGE, ApiError

EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 bad usage or spec, 3 service unreachable, 4 not found, "
    "130 interrupted."
)

JsonFlag = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else.")]

out = Console()
err = Console(stderr=True)

P = ParamSpec("P")
R = TypeVar("R")


def print_json(value: Any) -> None:
    """For machines: one JSON document."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """For people.  Cells are text, never markup."""
    table = Table(*columns, title=title or None, title_justify="left")
    for row in rows:
        table.add_row(*(str("" if cell is None else cell).replace("[", "\\[") for cell in row))
    out.print(table)


def say(text: str) -> None:
    """A remark, on standard error."""
    err.print(text, highlight=False, markup=False, soft_wrap=True)


def fail(text: str, code: int = FAILED) -> NoReturn:
    """Ends the command with one line."""
    say(text)
    raise typer.Exit(code)


def readable_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turns errors that are the user's to mend into a line on standard error and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ApiError as error:
            fail(str(error), error.exit_code)
        except SpecError as error:
            fail(
                "\n".join(f"{path}: {text}" if path else text for path, text in error.problems),
                USAGE,
            )
        except MonosemyError as error:
            fail(str(error))
        except KeyboardInterrupt:
            fail("Interrupted.", 130)

    return run
