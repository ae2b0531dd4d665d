"""What goes wrong with a call of the REST API, by what its caller can do about it."""

from __future__ import annotations

from pydantic import ValidationError

from monosemy.errors import MonosemyError
from monosemy.specs.rest.problems import FieldProblem, ProblemDetail


class ApiError(MonosemyError):
    """The service refused, or did not answer.  Its text says why and, where it can, what to do."""

    def __init__(
        self,
        message: str,
        advice: str | None = None,
        *,
        status: int | None = None,
        problem: ProblemDetail | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, advice)
        self.status = status
        """Of the answer; None where none came."""
        self.problem = problem
        """As the service reports it: type, title, detail, request id, faults; None where the answer
        was none of the service's."""
        self.retry_after = retry_after
        """Seconds after which another try may help; None where none would."""

    @property
    def faults(self) -> list[FieldProblem]:
        """Every fault of a request that does not validate."""
        return list(self.problem.errors or ()) if self.problem else []


class ServiceUnreachable(ApiError):
    """No answer: nothing listens at the address, or the connection broke."""


class NotMonosemy(ApiError):
    """What answers at the address is not monosemy, of another version, or sends elsewhere."""


class InvalidRequest(ApiError):
    """The request itself is at fault (400, 408, 413, 415, 422)."""


class NotAuthorised(ApiError):
    """A key is missing, or may not do this (401, 403)."""


class NotFound(ApiError):
    """There is no such thing (404)."""


class Conflict(ApiError):
    """The request does not fit the state of what it is about (409)."""


class TryLater(ApiError):
    """The service is busy, or a part of it is away (429, 503); ``retry_after`` says when."""


class ServerFault(ApiError):
    """The service came upon an error of its own (500, 502)."""


_KINDS: dict[int, type[ApiError]] = {
    **dict.fromkeys((400, 408, 413, 415, 422), InvalidRequest),
    **dict.fromkeys((401, 403), NotAuthorised),
    404: NotFound,
    409: Conflict,
    **dict.fromkeys((429, 503), TryLater),
}


def kind_of(status: int) -> type[ApiError]:
    """The kind of error that an answer of this status, 400 or above, is."""
    return _KINDS.get(status, ServerFault if status >= 500 else ApiError)


def error_of(status: int, content: bytes, retry_after: str | None = None) -> ApiError:
    """The error that an answer of this status, 400 or above, is: one line for each fault of a
    request that does not validate, else the problem's detail."""
    kind = kind_of(status)
    try:
        problem = ProblemDetail.model_validate_json(content)
    except ValidationError:
        return kind(f"The service answered {status}.", status=status)
    lines = [
        f"{each.path}: {each.message}" if each.path else each.message
        for each in problem.errors or ()
    ]
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    message = "\n".join(lines) or problem.detail
    return kind(message, status=status, problem=problem, retry_after=seconds)
