"""Errors of the domain know nothing of HTTP, and have their status in one place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from monosemy.errors import ConflictError, DataError, MonosemyError, SpecError
from service.kit import errors
from service.kit.problems import from_exception
from workers.failures import describe_failure

ROOT = Path(__file__).resolve().parents[2]

CASES = [
    (
        errors.NotFound("SAE", "x", "List them."),
        404,
        "not-found",
        "There is no SAE 'x'. List them.",
    ),
    (errors.InvalidRequest([("a.b", "is wrong")]), 422, "invalid-request", "a.b: is wrong"),
    (errors.Unprocessable("no", code="special"), 422, "special", "no"),
    (errors.Conflict("no"), 409, "conflict", "no"),
    (errors.Conflict("no", code="special"), 409, "special", "no"),
    (errors.NameTaken("no"), 409, "name-taken", "no Take another name."),
    (
        errors.NotFound("run", "x", errors.Listing.RUNS),
        404,
        "not-found",
        "There is no run 'x'. GET /api/v1/runs lists those there are.",
    ),
    (errors.Misconfigured("no"), 400, "bad-request", "no"),
    (errors.NoDatabase(), 400, "bad-request", str(errors.NoDatabase())),
    (errors.Unauthenticated("no"), 401, "unauthenticated", "no"),
    (errors.Forbidden("no"), 403, "forbidden", "no"),
    (errors.MissingScope("no"), 403, "missing-scope", "no"),
    (errors.OtherOrigin("no"), 403, "other-origin", "no"),
    (errors.WrongToken("no"), 403, "csrf-token", "no"),
    (errors.TooManyRequests("no", 7), 429, "too-many-requests", "no"),
    (errors.Unavailable("It", "no"), 503, "unavailable", "no"),
    (errors.Busy("It"), 503, "busy", str(errors.Busy("It"))),
    (errors.UpstreamFailed("no"), 502, "upstream-failed", "no"),
    (errors.UnsupportedContent("no"), 415, "unsupported-media-type", "no"),
    (SpecError([("", "no")]), 422, "invalid-request", "no"),
    (ConflictError("no"), 409, "conflict", "no"),
    (DataError("no"), 400, "bad-request", "no"),
]


@pytest.mark.parametrize(("error", "status", "code", "detail"), CASES, ids=lambda case: str(case))
def test_each_kind_has_its_status(
    error: MonosemyError, status: int, code: str, detail: str
) -> None:
    problem = from_exception(error)
    assert (problem.status_code, problem.slug, problem.detail) == (status, code, detail)
    assert problem.title


def test_every_kind_is_tried() -> None:
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, MonosemyError)
        if kind.__module__ == errors.__name__
    }
    tried = {type(error) for error, *_ in CASES} | {errors.DomainError}
    assert kinds <= tried


def test_a_name_that_is_taken_stands_at_its_field() -> None:
    assert from_exception(errors.NameTaken("no", "Stop.")).errors == [("name", "no Stop.")]
    assert from_exception(errors.Conflict("no")).errors is None


def test_headers_follow_from_the_kind() -> None:
    assert (from_exception(errors.TooManyRequests("no", 7)).headers or {})["Retry-After"] == "7"
    for away in (errors.Unavailable("It", "no"), errors.Busy("It")):
        assert int((from_exception(away).headers or {})["Retry-After"]) > 0
    assert "WWW-Authenticate" in (from_exception(errors.Unauthenticated("no")).headers or {})
    assert from_exception(errors.Busy("The hall")).title == "The hall is busy"


def test_a_run_fails_with_one_as_its_reason_and_is_not_tried_again() -> None:
    assert describe_failure(errors.NotFound("SAE", "x")) == ("There is no SAE 'x'.", False)


def test_statuses_are_given_at_the_edge_alone() -> None:
    """Elsewhere nobody names an HTTP exception; the inference server is an edge of its own, and
    problems become pages in one place."""
    edge = {ROOT / "service/kit/problems.py", ROOT / "workers/inference.py"}
    edge.add(ROOT / "service/pages/errors.py")
    edge |= set((ROOT / "service/edge").glob("*.py"))
    faults = []
    for package in ("service", "workers"):
        for file in (ROOT / package).rglob("*.py"):
            names = {
                alias.name
                for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
                if isinstance(node, ast.ImportFrom | ast.Import)
                for alias in node.names
            }
            if file not in edge and names & {"Problem", "HTTPException"}:
                faults.append(str(file.relative_to(ROOT)))
    assert not faults


def test_the_kit_imports_no_domain() -> None:
    """What every domain uses knows none of them."""
    for file in (ROOT / "service/kit").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("service."):
                assert str(node.module).startswith("service.kit."), file
