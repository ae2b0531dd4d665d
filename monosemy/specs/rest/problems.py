"""Errors of the API as it tells of them: problem details, RFC 9457."""

from __future__ import annotations

from pydantic import BaseModel, Field


class FieldProblem(BaseModel):
    """One fault of a request."""

    path: str = Field(examples=["training.tokens"])
    """Where it is: a key of the body, dotted, or the name of a parameter."""
    message: str
    """What is wrong with it."""


class ProblemDetail(BaseModel):
    """Problem details, RFC 9457."""

    type: str = Field(examples=["urn:monosemy:problem:not-found"])
    """Names the sort of problem; stable, meant for programs."""
    title: str
    """The sort of problem, for people."""
    status: int
    """The HTTP status."""
    detail: str
    """What happened this time and, where possible, what to do."""
    instance: str
    """Path of the request."""
    request_id: str | None = None
    """As in the ``X-Request-ID`` header and in the server's log."""
    errors: list[FieldProblem] | None = None
    """Every fault of a request that does not validate; of a name that is taken, where it stands."""
