"""/runs/new: a run of any kind, by a form or as YAML."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Query

from monosemy.errors import SpecError
from monosemy.specs import KINDS, apply_overrides
from monosemy.specs.parse import write_spec
from monosemy.specs.part import NAME
from monosemy.specs.rest.problems import FieldProblem
from monosemy.specs.rest.runs import KindSummary
from service.edge.context import SessionDep
from service.pages import run_words
from service.pages.page import PageRouter
from service.runs import endpoints as rest
from service.runs.drafts import list_kinds

router = PageRouter()

FIRST_KIND = "pipeline"


@dataclass(frozen=True)
class RunForm:
    kind: str
    description: str
    queue: str
    text: str
    kinds: list[KindSummary]
    origin: str | None = None
    """The run that this one is a copy of."""
    priority: int = 0
    errors: list[FieldProblem] = field(default_factory=list)


@router.page("/runs/new", "run_form.html", script="pages/run_form.js")
def new(
    session: SessionDep,
    kind: Annotated[str | None, Query(max_length=NAME)] = None,
    origin: Annotated[uuid.UUID | None, Query(alias="from")] = None,
    sae: Annotated[str | None, Query(max_length=NAME)] = None,
    given: Annotated[list[str] | None, Query(alias="set", max_length=50)] = None,
) -> RunForm:
    """``from``: a run whose spec is copied; ``sae`` and ``set=a.b=value`` are laid over it."""
    spec: dict[str, Any] = {}
    if origin is not None:
        spec = run_words.short_spec(rest.show_run(session, origin).spec)
    chosen = kind or str(spec.get("kind") or FIRST_KIND)
    spec = {**spec, "kind": chosen} if chosen == spec.get("kind") else {"kind": chosen}
    if sae is not None:
        spec["sae"] = sae
    errors = []
    try:
        spec = apply_overrides(spec, given or [])
    except SpecError as error:
        errors = [FieldProblem(path=path, message=message) for path, message in error.problems]
    if chosen not in KINDS:
        known = f"'{chosen}' is no kind of run; known: {', '.join(KINDS)}"
        errors.append(FieldProblem(path="kind", message=known))
    return form_of(write_spec(spec), chosen, errors, origin=None if origin is None else str(origin))


def form_of(text: str, kind: str, errors: list[FieldProblem], **more: Any) -> RunForm:
    """The form with ``text`` in it."""
    kinds = list_kinds().items
    about = next((each for each in kinds if each.kind == kind), None)
    return RunForm(
        kind,
        about.description if about else "",
        about.queue if about else "",
        text,
        kinds,
        errors=errors,
        **more,
    )
