"""GET /runs/kinds, GET /runs/kinds/{kind}, POST /runs/parse: what it takes to write a spec."""

from __future__ import annotations

from collections.abc import Callable
from inspect import cleandoc
from typing import Annotated, Any

from fastapi import Path
from sqlalchemy.orm import Session

from monosemy.errors import SpecError
from monosemy.specs import KINDS, RunSpec, parse_spec, queue_of
from monosemy.specs.parse import read_spec, write_spec
from monosemy.specs.part import NAME
from monosemy.specs.plugins import load_plugins
from monosemy.specs.rest.problems import FieldProblem
from monosemy.specs.rest.runs import KindDetail, Kinds, KindSummary, SpecDraft, SpecReading
from service.database.storable import storable, storable_text
from service.edge.context import AppContext, ContextDep, SessionDep
from service.edge.routing import ApiRouter, reads_only
from service.keys.authorize import Caller, CallerDep, CanRead
from service.kit.errors import NameTaken, NotFound
from service.kit.problems import documented
from service.runs.ceilings import check_ceilings
from service.runs.names import check_unique_name
from service.runs.sites import check_sites
from service.runs.sources import check_sources
from service.runs.submission import check_names, width_of

router = ApiRouter(prefix="/runs", tags=["runs"], dependencies=[CanRead])


@router.get("/kinds", summary="List kinds of runs")
def list_kinds() -> Kinds:
    """Those of plugins included."""
    load_plugins()
    return Kinds(items=[_summary(name, kind) for name, kind in KINDS.items()])


@router.get("/kinds/{kind}", summary="Show a kind of run", responses=documented(404, 422))
def show_kind(
    kind: Annotated[str, Path(max_length=NAME, description="Name of the kind.")],
) -> KindDetail:
    """With the JSON schema of its spec."""
    load_plugins()
    found = KINDS.get(kind)
    if found is None:
        raise NotFound("kind of run", kind, f"Known: {', '.join(KINDS)}.")
    return KindDetail(**dict(_summary(kind, found)), json_schema=found.model_json_schema())


def _summary(name: str, kind: type[RunSpec]) -> KindSummary:
    return KindSummary(kind=name, queue=kind.queue, description=cleandoc(kind.__doc__ or ""))


@router.post("/parse", summary="Read a run spec without submitting it", responses=documented(422))
@reads_only
def parse(
    session: SessionDep, context: ContextDep, caller: CallerDep, body: SpecDraft
) -> SpecReading:
    """A text becomes an object and an object a text; `errors` has what a submission would be
    refused for."""
    return read_draft(session, context, caller, body)


def read_draft(
    session: Session, context: AppContext, caller: Caller, draft: SpecDraft
) -> SpecReading:
    """The draft with its faults; stores nothing and keeps no upload."""
    given = storable_text(draft.text or "")
    try:
        spec = draft.spec if draft.text is None else read_spec(draft.text)
        yaml = given if draft.text is not None else write_spec(storable(spec))
    except SpecError as error:
        return SpecReading(spec=None, yaml=given, errors=_named(error), queue=None)
    reading = SpecReading(spec=storable(spec), yaml=yaml, errors=[], queue=None)
    try:
        parsed = parse_spec(spec)
    except SpecError as error:
        reading.errors = _named(error)
        return reading
    checks: list[Callable[[], Any]] = [
        lambda: check_names(session, parsed, caller),
        lambda: check_sources(context.settings, parsed, claiming=False),
        lambda: check_ceilings(context.settings, parsed, width_of(session, parsed)),
        lambda: check_sites(session, parsed),
        lambda: check_unique_name(session, parsed),
    ]
    reading.errors = [fault for check in checks for fault in _faults_of(check)]
    reading.queue = None if reading.errors else queue_of(parsed)
    return reading


def _faults_of(check: Callable[[], Any]) -> list[FieldProblem]:
    try:
        check()
    except (SpecError, NameTaken) as error:
        return _named(error)
    return []


def _named(error: SpecError | NameTaken) -> list[FieldProblem]:
    return [
        FieldProblem(path=storable_text(path), message=storable_text(message))
        for path, message in error.problems
    ]
