"""Runs as the API shows them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from monosemy.specs import KINDS, Part
from monosemy.specs.readings import StoredFigures
from monosemy.specs.run_states import RunState


class _Kinds:
    """Shows a string in the schema as one of the kinds there are when the schema is made."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        del core, handler
        return {"type": "string", "enum": list(KINDS)}


def _known(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"no kind of run; known: {', '.join(KINDS)}")
    return kind


RunKind = Annotated[str, _Kinds]
"""Of a stored run: its kind may come from a plugin that is absent now."""
KnownKind = Annotated[RunKind, AfterValidator(_known)]
"""A kind that somebody asks for."""


class _Row(BaseModel):
    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)


class RunSummary(_Row):
    """A run in a listing."""

    id: uuid.UUID
    kind: RunKind
    queue: str
    """`gpu` or `interp`; `none` for a pipeline, whose children do the work."""
    state: RunState
    parent_id: uuid.UUID | None
    """The pipeline that this run is a step of."""
    position: int
    """Place among its parent's children."""
    progress: StoredFigures
    """Where the stage under way stands: stage, unit, done, total, rate, eta_seconds, metrics."""
    priority: int
    """Of two that wait, the one with the higher goes first."""
    error: str | None
    """Why the latest attempt failed."""
    attempt: int
    """Attempts begun so far."""
    max_attempts: int
    """So many may end in an error that might pass; attempts whose worker was lost do not count."""
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None


class RunDetail(RunSummary):
    """Everything about one run but its events."""

    spec: dict[str, Any]
    """As it was submitted, defaults filled in."""
    depends_on: uuid.UUID | None
    """The run that must succeed before this one starts."""
    not_before: dt.datetime
    """A failed attempt is tried again then."""
    stages: list[StoredFigures]
    """Finished stages: name, unit, done, seconds, rate, metrics."""
    result: StoredFigures | None
    """What it made, once it has succeeded."""


class RunFamily(RunDetail):
    """A run with the steps it consists of; only pipelines have any."""

    children: list[RunDetail] = Field(default_factory=list)
    """In the order in which they run."""


class RunChange(Part):
    """What can be changed of a run."""

    priority: int = Field(ge=-100, le=100)
    """Of two that wait, the one with the higher goes first."""


class RunEventMessage(_Row):
    """The `data` of one server-sent event."""

    id: int
    run_id: uuid.UUID
    """The run itself or one of its children."""
    type: str
    """`state`, `progress`, `stage` (a finished one) or `log`."""
    data: StoredFigures
    created_at: dt.datetime
