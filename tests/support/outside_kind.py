"""Kinds of runs that the house does not know: one with unusual fields, one made of steps."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from monosemy.progress import Reporter
from monosemy.specs import EvaluateRun, JudgeSpec, ModelSpec, TextSpec, TrainRun, register_kind
from monosemy.specs import run as registry
from monosemy.specs.names import PENDING_SAE
from monosemy.specs.part import Count
from monosemy.specs.references import Plain, SaeReference, Source
from monosemy.specs.run import NO_QUEUE, RunSpec, Step
from monosemy.workspace import Workspace


class DistilRun(RunSpec):
    """Make a smaller SAE out of a larger one."""

    implementation: ClassVar[str | None] = "tests.support.outside_kind:distil"

    kind: Literal["distil"] = "distil"
    teacher: Annotated[str, SaeReference(changed=True), Field(max_length=200)]
    """The larger one."""
    corpora: list[TextSpec] = Field([TextSpec()], max_length=4)
    """What it reads."""
    student: ModelSpec | None = None
    """Another host model."""
    weights: Annotated[str, Source("sae"), Field(max_length=200)] | None = None
    """Where to start from."""
    cache: Annotated[str, Source("artifact"), Field(max_length=200)] = "probes/x"
    """A folder of artifacts."""
    critic: JudgeSpec = JudgeSpec()
    """Who judges."""
    length: Count = 1000
    """Tokens."""
    remark: Annotated[str, Plain(), Field(max_length=200)] = ""
    """For people."""

    def sae_ids(self, run_id: uuid.UUID) -> Sequence[uuid.UUID]:
        return [uuid.uuid5(run_id, "distilled")]


class CurriculumRun(RunSpec):
    """Train an SAE, then make a smaller one of it and evaluate it, one beside the other."""

    queue: ClassVar[str] = NO_QUEUE

    kind: Literal["curriculum"] = "curriculum"
    first: TrainRun = TrainRun()
    """The training."""

    def steps(self) -> Sequence[Step]:
        return [
            Step(self.first),
            Step(DistilRun(teacher=PENDING_SAE), after=0),
            Step(EvaluateRun(sae=PENDING_SAE), after=0),
        ]


def distil(spec: DistilRun, workspace: Workspace, reporter: Reporter) -> dict[str, Any]:
    """What the kind's declaration names."""
    with reporter.stage("distil", spec.length, "tokens") as stage:
        stage.advance(spec.length)
    return {"teacher": spec.teacher, "root": str(workspace.root), "length": spec.length}


@contextmanager
def registered(*kinds: type[RunSpec]) -> Iterator[None]:
    """The kinds are known within the block."""
    for kind in kinds or (DistilRun, CurriculumRun):
        register_kind(kind)
    try:
        yield
    finally:
        for kind in kinds or (DistilRun, CurriculumRun):
            registry._kinds.pop(kind.model_fields["kind"].default)
