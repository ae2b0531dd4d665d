"""Every error that leaves the API is a problem detail (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from monosemy.errors import ConflictError, MonosemyError, SpecError
from monosemy.specs.rest.problems import FieldProblem, ProblemDetail

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5

logger = logging.getLogger(__name__)


class Problem(HTTPException):
    """Raise it anywhere below an endpoint or middleware; ``slug`` ends the problem's type."""

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


def not_found(what: str, name: object, advice: str = "") -> Problem:
    detail = f"There is no {what} '{name}'." + (f" {advice}" if advice else "")
    return Problem(404, "not-found", "Not found", detail)


def invalid(errors: Sequence[tuple[str, str]]) -> Problem:
    """422 with one (path, message) pair per fault."""
    detail = "; ".join(f"{path}: {message}" if path else message for path, message in errors)
    return Problem(422, "invalid-request", "The request does not validate", detail, errors=errors)


def unavailable(what: str, detail: str) -> Problem:
    """503 that asks the caller to come back."""
    return Problem(
        503,
        "unavailable",
        f"{what} is not available",
        detail,
        headers={"Retry-After": str(RETRY_SECONDS)},
    )


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


def from_exception(error: Exception) -> Problem:
    """The problem that tells of ``error``; an unforeseen one tells nothing of the inside."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, SpecError):
        return invalid(error.problems)
    if isinstance(error, ConflictError):
        return Problem(409, "conflict", "The request does not fit the state", str(error))
    if isinstance(error, MonosemyError):
        return Problem(400, "bad-request", "The request cannot be served", str(error))
    if isinstance(error, RequestValidationError):
        return invalid([_request_fault(item) for item in error.errors()])
    if isinstance(error, HTTPException):
        return _from_http_exception(error)
    if isinstance(error, DataError):
        return invalid([("", "a value cannot be stored: a NUL character, or a number too large")])
    if isinstance(error, PoolTimeout | OperationalError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    ):
        logger.warning("database unavailable", exc_info=error)
        return unavailable("The database", "The database does not answer; try again.")
    logger.error("unhandled error", exc_info=error)
    return Problem(
        500,
        "internal",
        "Internal error",
        "Something went wrong on the server; its log has the details under this request's id.",
    )


def install(app: FastAPI) -> None:
    """Makes ``app`` answer every error with a problem."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        return problem_response(
            from_exception(error), request.url.path, getattr(request.state, "request_id", None)
        )

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


_UNREADABLE = "There was an error parsing the body"
"""FastAPI's word for JSON that Python's parser gives up: numbers of more than 4,300 digits, lists
too deep within lists."""


def _from_http_exception(error: HTTPException) -> Problem:
    phrase = HTTPStatus(error.status_code).phrase
    slug = phrase.lower().replace(" ", "-")
    details = {
        404: "Nothing lives at this address; see /api/v1/docs.",
        405: "This address does not take that method.",
    }
    detail = str(error.detail)
    if detail == _UNREADABLE:
        return invalid(
            [("", "the body cannot be read: it is nested too deeply, or holds a number too long")]
        )
    if detail == phrase:
        detail = details.get(error.status_code, detail)
    return Problem(error.status_code, slug, phrase, detail, headers=error.headers)


def _request_fault(item: Any) -> tuple[str, str]:
    where, *path = [str(part) for part in item["loc"]]
    if item["type"] == "json_invalid":
        return "", f"the body is not JSON: {item['ctx']['error']}"
    name = ".".join(path) if path else ("" if where == "body" else where)
    return name, item["msg"].removeprefix("Value error, ")
