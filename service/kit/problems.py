"""Every error that leaves the API is a problem detail (RFC 9457); each kind has its status here."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.types import Scope

from monosemy.errors import ConflictError, MonosemyError, SpecError
from monosemy.json_faults import json_fault
from monosemy.specs.messages import message_of
from monosemy.specs.parse import unknown_key
from monosemy.specs.rest.problems import FieldProblem, ProblemDetail
from service.kit.errors import (
    Busy,
    Forbidden,
    InvalidRequest,
    NameTaken,
    NotFound,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    Unprocessable,
    UnsupportedContent,
    UpstreamFailed,
)

MEDIA_TYPE = "application/problem+json"

logger = logging.getLogger(__name__)


class Problem(HTTPException):
    """An answer that the edge gives by itself; all others raise errors of ``service.kit.errors``.

    ``slug`` ends the problem's type."""

    def __init__(
        self,
        status: int,
        slug: str,
        title: str,
        detail: str,
        *,
        errors: Sequence[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.slug = slug
        self.title = title
        self.errors = errors


def problem_response(problem: Problem, path: str, request_id: str | None) -> JSONResponse:
    body = ProblemDetail(
        type=f"urn:monosemy:problem:{problem.slug}",
        title=problem.title,
        status=problem.status_code,
        detail=problem.detail,
        instance=path,
        request_id=request_id,
        errors=None
        if problem.errors is None
        else [FieldProblem(path=path, message=message) for path, message in problem.errors],
    )
    return JSONResponse(
        body.model_dump(exclude_none=True),
        status_code=problem.status_code,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )


async def problem_answer(scope: Scope, problem: Problem) -> Response:
    """The problem as the caller reads it: JSON, or the page that ``app.state.problem_page`` makes
    for a browser."""
    request_id = scope.get("state", {}).get("request_id")
    as_page = getattr(getattr(scope.get("app"), "state", None), "problem_page", None)
    page: Response | None = await as_page(scope, problem, request_id) if as_page else None
    return page or problem_response(problem, scope["path"], request_id)


@dataclass(frozen=True)
class _Sort:
    """How errors of one kind are answered."""

    status: int
    code: str
    title: str


_SORTS: dict[type[MonosemyError], _Sort] = {
    Unauthenticated: _Sort(401, "unauthenticated", "An API key is needed"),
    Forbidden: _Sort(403, "forbidden", "The caller may not do this"),
    NotFound: _Sort(404, "not-found", "Not found"),
    ConflictError: _Sort(409, "conflict", "The request does not fit the state"),
    UnsupportedContent: _Sort(415, "unsupported-media-type", "Unsupported media type"),
    SpecError: _Sort(422, "invalid-request", "The request does not validate"),
    Unprocessable: _Sort(422, "unprocessable", "The request cannot be carried out"),
    TooManyRequests: _Sort(429, "too-many-requests", "Too many requests"),
    UpstreamFailed: _Sort(502, "upstream-failed", "A server behind this one failed"),
    Busy: _Sort(503, "busy", "Busy"),
    Unavailable: _Sort(503, "unavailable", "Not available"),
    MonosemyError: _Sort(400, "bad-request", "The request cannot be served"),
}
"""The one place that gives errors their status; a kind that is not named has that of its base."""


def from_exception(error: Exception, body: Any = None) -> Problem:
    """The problem that tells of ``error``; an unforeseen one tells nothing of the inside.

    ``body``: the type of the body that did not validate."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, MonosemyError):
        return _from_monosemy_error(error)
    if isinstance(error, RequestValidationError):
        faults = [_request_fault(item, body, error.body) for item in error.errors()]
        return from_exception(InvalidRequest(faults))
    if isinstance(error, HTTPException):
        return _from_http_exception(error)
    if isinstance(error, DataError):
        return from_exception(InvalidRequest([("", _UNSTORABLE)]))
    if isinstance(error, PoolTimeout | OperationalError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    ):
        logger.warning("database unavailable", exc_info=error)
        return from_exception(
            Unavailable("The database", "The database does not answer; try again.")
        )
    logger.error("unhandled error", exc_info=error)
    return Problem(
        500,
        "internal",
        "Internal error",
        "Something went wrong on the server; its log has the details under this request's id.",
    )


def _from_monosemy_error(error: MonosemyError) -> Problem:
    sort = next(_SORTS[kind] for kind in type(error).__mro__ if kind in _SORTS)
    headers = {}
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="monosemy"'
    if isinstance(error, TooManyRequests | Unavailable | Busy):
        headers["Retry-After"] = str(error.retry_seconds)
    return Problem(
        sort.status,
        getattr(error, "code", None) or sort.code,
        getattr(error, "title", None) or sort.title,
        str(error),
        errors=error.problems if isinstance(error, SpecError | NameTaken) else None,
        headers=headers,
    )


def install(app: FastAPI) -> None:
    """Makes ``app`` answer every error with a problem."""

    async def answer(request: Request, error: Exception) -> Response:
        return await problem_answer(request.scope, from_exception(error, _body_of(request)))

    for kind in (
        Problem,
        MonosemyError,
        RequestValidationError,
        HTTPException,
        DataError,
        OperationalError,
        PoolTimeout,
    ):
        app.add_exception_handler(kind, answer)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """``responses`` of an endpoint that can answer with these problems."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {
                MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDetail.__name__}"}}
            },
        }
        for status in statuses
    }


_UNSTORABLE = "a value cannot be stored: a NUL character, or a number too large"
_UNREADABLE = "There was an error parsing the body"
"""FastAPI's word for JSON that Python's parser gives up: bytes that are no UTF-8, numbers of more
than 4,300 digits, lists too deep within lists.  What it raised is the cause of the error."""


def _from_http_exception(error: HTTPException) -> Problem:
    phrase = HTTPStatus(error.status_code).phrase
    slug = phrase.lower().replace(" ", "-")
    details = {
        404: "Nothing lives at this address; see /api/v1/docs.",
        405: "This address does not take that method.",
    }
    detail = str(error.detail)
    if detail == _UNREADABLE:
        cause = error.__cause__
        why = "it is malformed"
        if isinstance(cause, ValueError | RecursionError):
            why = json_fault(cause)
        return from_exception(InvalidRequest([("", f"the body is not JSON: {why}")]))
    if detail == phrase:
        detail = details.get(error.status_code, detail)
    return Problem(error.status_code, slug, phrase, detail, headers=error.headers)


def _body_of(request: Request) -> Any:
    """The type of the body that the request's route takes; None where it takes none."""
    field = getattr(request.scope.get("route"), "body_field", None)
    return None if field is None else field.field_info.annotation


def _request_fault(item: Any, body: Any, data: Any) -> tuple[str, str]:
    where, *path = [str(part) for part in item["loc"]]
    if item["type"] == "extra_forbidden" and where == "body" and path:
        return ".".join(path), unknown_key(body, item["loc"][1:], data)
    if item["type"] == "json_invalid":
        return "", f"the body is not JSON: {item['ctx']['error']}"
    name = ".".join(path) if path else ("" if where == "body" else where)
    return name, message_of(item)
