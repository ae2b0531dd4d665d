"""GET /judge-tests and DELETE /judge-tests/{key}"""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from monosemy.interp.judge_test.result import Role, RoleTest
from monosemy.specs.messages import pattern
from monosemy.specs.rest.judge_tests import JudgeTestTable, JudgeTestView
from service.database.judge_tables import JudgeTest
from service.edge.context import SessionDep
from service.edge.routing import ApiRouter
from service.judge_tests import repository
from service.keys.authorize import CanAdminister, CanRead
from service.kit.errors import Listing, NotFound
from service.kit.problems import documented

router = ApiRouter(prefix="/judge-tests", tags=["judges"])

_KEY = pattern("^[0-9a-f]{16}$", "a key of 16 digits 0-9 and a-f, as the list has it,")
Key = Annotated[str, Path(pattern=_KEY, max_length=16, description="Key of the test.")]


@router.get("", summary="List judges' tests", dependencies=[CanRead], responses=documented(422))
def list_all(
    session: SessionDep,
    endpoint: Annotated[
        str | None, Query(max_length=500, description="Only of the judge at this address.")
    ] = None,
    model: Annotated[str | None, Query(max_length=200, description="Only of this model.")] = None,
    role: Annotated[Role | None, Query(description="Only in this role.")] = None,
) -> JudgeTestTable:
    """What each judge came to when it was asked questions whose answers are known, the newest
    first.  A run asks them of a judge that it does not know yet."""
    rows = repository.tests_of(session, endpoint, model, role)
    return JudgeTestTable(items=[_view(row) for row in rows])


@router.delete(
    "/{judge_test}",
    status_code=204,
    summary="Forget a judge's test",
    dependencies=[CanAdminister],
    responses=documented(404, 422),
)
def forget(session: SessionDep, judge_test: Key) -> None:
    """The next run with this judge tests it anew.  What it has scored keeps the old figure."""
    if not repository.forget_test(session, judge_test):
        raise NotFound("judge's test", judge_test, Listing.JUDGE_TESTS)


def _view(row: JudgeTest) -> JudgeTestView:
    test = RoleTest.from_dict(row.result)
    return JudgeTestView(
        key=row.key,
        role=test.role,
        endpoint=row.endpoint,
        model=row.model,
        prompt=row.prompt,
        result=test.brief(),
        families=test.families,
        summary=str(test),
        warning=test.warning(),
        run_id=row.run_id,
        created_at=row.created_at,
    )
