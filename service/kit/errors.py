"""Errors of the domain: what repositories, services and workers raise.

They know nothing of HTTP: ``service.kit.problems`` alone says which status each kind has.  Each is
a ``MonosemyError``, so a command prints it in one line and a run fails with it as its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from monosemy.errors import ConflictError, MonosemyError, SpecError

RETRY_SECONDS = 5


class DomainError(MonosemyError):
    """Base.  ``code`` and ``title`` say more than the kind of error does, where that is needed:
    ``code`` is for programs and never changes, ``title`` for people."""

    code: str | None = None
    title: str | None = None

    def __init__(
        self,
        message: str,
        advice: str | None = None,
        *,
        code: str | None = None,
        title: str | None = None,
    ) -> None:
        super().__init__(message, advice)
        self.code, self.title = code or self.code, title or self.title


class Listing(StrEnum):
    """Where the API lists what somebody may have meant, beneath ``/api/v1``."""

    SAES = "/saes"
    MODELS = "/models"
    RUNS = "/runs"
    LISTS = "/lists"
    COMPARISONS = "/comparisons"
    TASKS = "/tasks"
    CIRCUITS = "/circuits"
    CONCEPTS = "/concepts"
    GRAPHS = "/graphs"
    BENCHMARKS = "/benchmarks"
    LEADERBOARDS = "/leaderboards"
    SETS = "/sets"
    KEYS = "/keys"
    JUDGE_TESTS = "/judge-tests"

    @property
    def advice(self) -> str:
        """For callers of the API; the command line says it in commands."""
        return f"GET /api/v1{self.value} lists those there are."


class NotFound(DomainError):
    """There is no ``what`` of this id or name; ``advice`` says what there is, or where."""

    def __init__(self, what: str, name: object, advice: Listing | str | None = None) -> None:
        told = advice.advice if isinstance(advice, Listing) else advice
        super().__init__(f"There is no {what} '{name}'.", told)


class InvalidRequest(SpecError):
    """A request with faults, one (path, message) pair each; ``path`` names a field or parameter."""

    def __init__(self, faults: Sequence[tuple[str, str]]) -> None:
        super().__init__(list(faults))


class Unprocessable(DomainError):
    """A request whose every field is sound, and which still cannot be done."""


class Conflict(DomainError, ConflictError):
    """A request that does not fit the state of what it is about."""


class NameTaken(Conflict):
    """A ``what`` (an SAE, a list) of this name is there already; ``problems`` says so at the field
    ``name``, as of a request that does not validate."""

    code, title = "name-taken", "The name is taken"

    def __init__(self, message: str, advice: str = "Take another name.") -> None:
        super().__init__(message, advice)
        self.problems = [("name", str(self))]


class Misconfigured(DomainError):
    """A setting is missing, or does not fit another: nothing can be done before it is mended."""


class NoDatabase(Misconfigured):
    """The settings name no database."""

    def __init__(self) -> None:
        super().__init__(
            "No database is configured.",
            "Set MONOSEMY_DATABASE_URL, or start the embedded stack with 'monosemy up'.",
        )


class Unauthenticated(DomainError):
    """No API key, or none that is known."""


class Forbidden(DomainError):
    """The caller may not do this."""


class MissingScope(Forbidden):
    """The caller's API key lacks a scope."""

    code, title = "missing-scope", "The key does not allow this"


class OtherOrigin(Forbidden):
    """The request comes from a page of another origin."""

    code, title = "other-origin", "The request comes from another page"


class WrongToken(Forbidden):
    """A change by a session without the token that proves that a page of ours asks for it."""

    code, title = "csrf-token", "The page's token is missing or wrong"


class TooManyRequests(DomainError):
    """The caller is to come back after ``retry_seconds``."""

    def __init__(self, message: str, retry_seconds: int) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class Unavailable(DomainError):
    """``what`` does not answer now; another try may succeed after ``retry_seconds``."""

    retry_seconds = RETRY_SECONDS

    def __init__(self, what: str, message: str) -> None:
        super().__init__(message, title=f"{what} is not available")


class Busy(DomainError):
    """All places of ``what`` are taken; another try may succeed after ``retry_seconds``."""

    retry_seconds = RETRY_SECONDS

    def __init__(self, what: str) -> None:
        super().__init__(
            "All places for such calls are taken, and enough callers wait. Try again later.",
            title=f"{what} is busy",
        )


class UpstreamFailed(DomainError):
    """A server behind this one came upon an error."""


class UnsupportedContent(DomainError):
    """A body of a sort that is not taken."""
