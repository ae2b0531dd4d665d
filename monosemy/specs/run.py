"""A run kind, declared once: its class says what everything else needs to know of it.

Routing, validation, the checks of what a spec names, pipelines, garbage collection, the workers and
the CLI read these declarations.  A kind is a subclass of ``RunSpec`` with ``@register_kind``, here
or in a module outside.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import Field

from monosemy.specs.part import Part
from monosemy.specs.parts import TrainingSpec
from monosemy.specs.references import part_classes, undeclared_fields

if TYPE_CHECKING:
    from monosemy.specs.trainings import TrainRun

GPU, INTERP, NO_QUEUE = "gpu", "interp", "none"
"""Where torch and the host model are; where judges are asked; nowhere, since the steps do the
work."""


class RunSpec(Part):
    """What every run spec declares.  A subclass has a field ``kind`` with its name."""

    if TYPE_CHECKING:  # each kind declares the field itself: fields keep their order in JSON
        kind: str

    queue: ClassVar[str] = GPU
    """Whose workers execute it; ``NO_QUEUE`` where ``steps`` do."""
    shared: ClassVar[bool] = False
    """Whether its features are shared out among workers, so that a lost one costs little."""
    listed_as: ClassVar[str | None] = None
    """A parent may have several such steps: the name of the list of their results in the parent's
    result.  None for one step, whose result stands under its kind."""
    unique_name: ClassVar[Literal["concept", "graph"] | None] = None
    """Of what its ``name`` must be the only one: it is refused where there is such a name already.
    SAEs and sets whose name is taken get a number instead (``made_names``)."""
    implementation: ClassVar[str | None] = None
    """``module:function`` that executes a kind from outside: called with spec, ``Workspace`` and
    ``Reporter``, it returns the run's result, JSON.  None for kinds that the workers know."""

    def steps(self) -> Sequence[Step]:
        """The runs that this one consists of; none for a run that is executed itself."""
        return ()

    def trainings(self) -> Sequence[TrainRun]:
        """What it trains, one for each SAE: those of its steps, unless it trains itself."""
        return [each for step in self.steps() for each in step.spec.trainings()]

    def sae_ids(self, run_id: uuid.UUID) -> Sequence[uuid.UUID]:
        """Ids of the SAEs that the run ``run_id`` itself makes, equal in every attempt."""
        del run_id
        return ()

    def unique_names(self) -> Sequence[str]:
        """Names of what it makes that must be free: of the kind ``unique_name``."""
        name = getattr(self, "name", None)
        return [name] if self.unique_name is not None and isinstance(name, str) else []

    def made_names(self) -> Sequence[str]:
        """Names that it asks for its SAEs, in the order of ``sae_ids``; none where it leaves them
        to the worker."""
        return ()

    def made_sets(self) -> Sequence[str]:
        """Names that it asks for the sets of its SAEs."""
        return ()

    def needs_host(self) -> bool:
        """Whether it needs the host model, and so the workers that have it, whatever ``queue``."""
        return False

    def needs_judge(self) -> bool:
        """Whether it asks an LLM."""
        return False


@dataclass(frozen=True)
class Step:
    """A run that is part of another.  ``PENDING_SAE`` in it is the SAE that a step before makes."""

    spec: RunSpec
    after: int | None = None
    """Place of the step that must succeed before this one starts; None for none."""


_kinds: dict[str, type[RunSpec]] = {}

KINDS: Mapping[str, type[RunSpec]] = MappingProxyType(_kinds)
"""The class of every kind there is, by name."""

S = TypeVar("S", bound=RunSpec)


def register_kind(spec: type[S]) -> type[S]:
    """Makes a kind known: API, queues, workers and CLI take it from then on.

    Raises ``ValueError`` for a kind that is there already, and for a class that leaves open what
    it names, where it runs or what it trains.
    """
    names = get_args(spec.model_fields["kind"].annotation)
    if len(names) != 1 or spec.model_fields["kind"].default != names[0]:
        raise ValueError(f"{spec.__name__}: kind must be one literal, and its default")
    (name,) = names
    existing = _kinds.get(name)
    if existing is not None and (existing.__module__, existing.__qualname__) != (
        spec.__module__,
        spec.__qualname__,
    ):
        raise ValueError(f"{spec.__name__}: there is a kind '{name}' already, {existing.__name__}")
    faults = undeclared_fields(spec)
    if spec.queue not in (GPU, INTERP, NO_QUEUE):
        faults.append(f"{spec.__name__}.queue: '{spec.queue}' has no workers")
    if spec.queue == NO_QUEUE and spec.steps is RunSpec.steps:
        faults.append(f"{spec.__name__}: no queue and no steps")
    ours = spec.__module__.partition(".")[0] == "monosemy"
    if spec.queue != NO_QUEUE and spec.implementation is None and not ours:
        faults.append(f"{spec.__name__}: it needs an implementation, as 'module:function'")
    silent = spec.trainings is RunSpec.trainings and spec.steps is RunSpec.steps
    if silent and TrainingSpec in part_classes(spec):
        faults.append(f"{spec.__name__}: trainings() must say what its TrainingSpec trains")
    if faults:
        raise ValueError("\n".join(faults))
    _kinds[name] = spec
    return spec


def run_union() -> Any:
    """The type of any run spec that is known now, told apart by ``kind``."""
    return Annotated[reduce(or_, _kinds.values()), Field(discriminator="kind")]


def needs_host(spec: Part) -> bool:
    """Whether a run of the interpretation queue has the host model run."""
    return isinstance(spec, RunSpec) and spec.needs_host()


def needs_judge(spec: Part) -> bool:
    """Whether a run asks an LLM."""
    return isinstance(spec, RunSpec) and spec.needs_judge()


def queue_of(spec: Part) -> str:
    """The queue of a run: that of its kind, but ``gpu`` for what needs the host model itself.

    ``"none"`` for a run that is executed as its steps.
    """
    if not isinstance(spec, RunSpec):
        return NO_QUEUE
    return GPU if spec.needs_host() else spec.queue
