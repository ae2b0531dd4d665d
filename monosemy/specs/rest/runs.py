"""Runs as the API shows them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from monosemy.specs import KINDS, Part
from monosemy.specs.described import Described
from monosemy.specs.readings import StoredFigures
from monosemy.specs.rest.problems import FieldProblem
from monosemy.specs.run_states import RunState


class _KindSchema:
    """Shows a string in the schema as one of the kinds there are when the schema is made."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        del core, handler
        return {"type": "string", "enum": list(KINDS)}


def _known_kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"no kind of run; known: {', '.join(KINDS)}")
    return kind


RunKind = Annotated[str, _KindSchema]
"""Of a stored run: its kind may come from a plugin that is absent now."""
KnownKind = Annotated[RunKind, AfterValidator(_known_kind)]
"""A kind that somebody asks for."""


class _View(Described):
    model_config = ConfigDict(from_attributes=True)


class RunSummary(_View):
    """A run in a listing."""

    id: uuid.UUID
    kind: RunKind
    queue: str
    """`gpu` or `interp`; `none` for a pipeline, whose children do the work."""
    state: RunState
    subject: str | None = None
    """What it makes or works on: the name that its spec gives, else its SAE's."""
    other: str | None = None
    """The SAE that `subject` is compared with."""
    scorer: str | None = None
    """What a score run scores by."""
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


class RunTable(BaseModel):
    """A few runs."""

    items: list[RunSummary]


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
    warnings: list[str] = Field(default_factory=list)
    """What to know before that is relied on: a judge that explains or scores badly, features that
    could not be done, an end before all was done, an SAE that is not called as was asked. A
    pipeline's steps have their own."""


class RunFamily(RunDetail):
    """A run with the steps it consists of; only pipelines have any."""

    children: list[RunDetail] = Field(default_factory=list)
    """In the order in which they run."""


class RunChange(Part):
    """What can be changed of a run."""

    priority: int = Field(ge=-100, le=100)
    """Of two that wait, the one with the higher goes first."""


class RunEventMessage(_View):
    """The `data` of one server-sent event."""

    id: int
    run_id: uuid.UUID
    """The run itself or one of its children."""
    type: str
    """`state`, `progress`, `stage` (a finished one) or `log`."""
    data: StoredFigures
    created_at: dt.datetime


WaitsFor = Literal["nothing", "turn", "time", "run", "paused queue", "full queue", "full key"]


class RunWaiting(_View):
    """What a run that is queued waits for; of a pipeline, its first step that is queued."""

    run_id: uuid.UUID
    """The run itself, or that step."""
    queue: str
    waits_for: WaitsFor
    """`turn`: a worker takes those before it first; `time`: a failed attempt is tried again at
    `until`; `run`: `depends_on` must succeed; a queue that is paused or as full as it may be, an
    API key with as many runs under way as it may have; `nothing` for a run that is not queued."""
    ahead: int | None
    """Runs of its queue that could start and go before it; null unless it could start itself."""
    under_way: int
    """Runs of its queue that workers hold."""
    until: dt.datetime | None
    depends_on: uuid.UUID | None


class KindSummary(_View):
    """A kind of run that a spec can name."""

    kind: str
    queue: str
    """Whose workers execute it; `none` where its steps are executed."""
    description: str


class KindDetail(KindSummary):
    """A kind with the form of its spec."""

    json_schema: dict[str, Any]
    """JSON schema of its spec; descriptions say what each field means."""


class Kinds(BaseModel):
    items: list[KindSummary]


SPEC_TEXT = 100_000
"""Longest spec that is read as a text, in characters."""


class SpecDraft(Part):
    """A run spec that is being written: as a text or as an object, one of the two."""

    text: Annotated[str, Field(max_length=SPEC_TEXT)] | None = None
    """YAML or JSON, without anchors and aliases."""
    spec: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one(self) -> SpecDraft:
        if (self.text is None) == (self.spec is None):
            raise ValueError("send either text or spec")
        return self


class SpecReading(Described):
    """What a draft says, and what is wrong with it; nothing is stored."""

    spec: dict[str, Any] | None
    """As it was given, as an object; null where the text cannot be read."""
    yaml: str
    """The same as a text."""
    errors: list[FieldProblem]
    """What a submission would be refused for, as far as that can be said now."""
    queue: str | None
    """Where it would be executed; null where it has faults."""
