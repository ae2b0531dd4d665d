"""What went wrong, as a command says it: a line, and the exit code that goes with it."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from monosemy.errors import MonosemyError, SettingError, SpecError
from monosemy.exit_codes import FAILED, NOT_FOUND, UNREACHABLE, USAGE
from monosemy.specs.messages import message_of
from service.cli.client import ApiError, NotFound, ServiceUnreachable
from service.kit import errors as domain
from service.kit.errors import Listing

LISTS = {
    Listing.SAES: "monosemy sae list",
    Listing.MODELS: "monosemy models",
    Listing.RUNS: "monosemy run list",
    Listing.LISTS: "monosemy list all",
    Listing.COMPARISONS: "monosemy comparison list",
    Listing.TASKS: "monosemy tasks list",
    Listing.CIRCUITS: "monosemy circuit list",
    Listing.CONCEPTS: "monosemy concept list",
    Listing.GRAPHS: "monosemy graph list",
    Listing.BENCHMARKS: "monosemy benchmarks list",
    Listing.LEADERBOARDS: "monosemy benchmarks leaderboards",
    Listing.SETS: "monosemy set list",
    Listing.KEYS: "monosemy keys list",
    Listing.JUDGE_TESTS: "monosemy judge tests",
}
"""The command that shows what a call of the API lists."""

Fault = tuple[str, int]
"""(text, exit code); a line for each thing that is wrong."""


def fault_of(error: BaseException) -> Fault | None:
    """What a person is told of ``error``; None for one that nobody foresaw."""
    if isinstance(error, SpecError):
        lines = [f"{path}: {text}" if path else text for path, text in error.problems]
        return "\n".join(lines), USAGE
    if isinstance(error, MonosemyError):
        return in_commands(str(error)), exit_code_of(error)
    if isinstance(error, ValidationError) and error.title == "Settings":
        return "\n".join(_setting_fault(each) for each in error.errors()), USAGE
    if isinstance(error, UnicodeEncodeError):
        return "An argument or a text holds bytes that are no UTF-8.", USAGE
    if isinstance(error, OSError):
        return _file_fault(error), FAILED
    return _database_fault(error)


def exit_code_of(error: MonosemyError) -> int:
    if isinstance(error, ApiError):
        if isinstance(error, ServiceUnreachable) or error.status == 503:
            return UNREACHABLE
        if isinstance(error, NotFound):
            return NOT_FOUND
        return USAGE if error.status == 422 else FAILED
    if isinstance(error, SpecError | SettingError | domain.Misconfigured):
        return USAGE
    if isinstance(error, domain.Unavailable | domain.Busy):
        return UNREACHABLE
    return NOT_FOUND if isinstance(error, domain.NotFound) else FAILED


def in_commands(text: str) -> str:
    """``text`` with the command in place of the REST call that lists what there is."""
    for listing, command in LISTS.items():
        text = text.replace(listing.advice, f"'{command}' shows those there are.")
    return text


def _file_fault(error: OSError) -> str:
    """The file and what is wrong with it, without the error's number."""
    if error.filename is None or error.strerror is None:
        return error.strerror or str(error)
    return f"{error.filename}: {error.strerror}"


def _database_fault(error: BaseException) -> Fault | None:
    """Of an error of SQLAlchemy, or of psycopg beneath it."""
    library = type(error).__module__.partition(".")[0]
    if library not in ("sqlalchemy", "psycopg"):
        return None
    # SQLAlchemy takes a third of a second to import: only commands that use it wait for it.
    from psycopg import OperationalError as Broken
    from psycopg import ProgrammingError as Malformed
    from sqlalchemy.exc import ArgumentError, OperationalError, ProgrammingError, TimeoutError

    refused = isinstance(error, ProgrammingError) and getattr(error.orig, "sqlstate", None)
    if isinstance(error, ArgumentError | Malformed | ProgrammingError) and not refused:
        return "MONOSEMY_DATABASE_URL is not postgresql://user:password@host/database.", USAGE
    if isinstance(error, OperationalError | TimeoutError | Broken):
        return "The database does not answer. Is MONOSEMY_DATABASE_URL right?", UNREACHABLE
    if refused:
        text = "The database is not as this version needs it. Run 'monosemy migrate' first."
        return text, FAILED
    return None


def _setting_fault(item: Any) -> str:
    name = ".".join(str(part) for part in item["loc"]).upper()
    why, given = message_of(item), repr(item["input"])
    return f"MONOSEMY_{name}: {why}" + ("" if given in why else f", not {given}")
