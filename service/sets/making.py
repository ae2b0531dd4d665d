"""Sets put together of stored SAEs, and taken apart again; the SAEs stay what they are."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from monosemy.errors import UnknownSite
from monosemy.specs.hooks import Hook
from monosemy.specs.rest.saes import HooksView
from monosemy.specs.rest.sets import NewSet, SetView
from monosemy.specs.run_states import ENDED
from monosemy.specs.sets import SetPlace
from service.database.tables import Run, Sae
from service.keys.authorize import Caller
from service.keys.ownership import check_owner
from service.kit.errors import Conflict, InvalidRequest, NameTaken, NotFound
from service.kit.free_names import lock_names
from service.runs.sources import sets_named
from service.saes.repository import find_sae
from service.saes.views import sae_hooks
from service.sets.repository import members
from service.sets.service import saes_of_set, view


def make_set(session: Session, body: NewSet, caller: Caller) -> SetView:
    """``InvalidRequest`` at the field for SAEs that do not fit together, ``NameTaken``,
    ``Conflict`` where one is of another set, ``Forbidden`` where the caller may not change one."""
    lock_names(session)
    if members(session, name=body.name):
        raise NameTaken(f"There is a set named '{body.name}' already.")
    saes = _ordered(_locked(session, body.saes))
    for sae in saes:
        check_owner(caller, sae.created_by, f"the SAE '{sae.name}'")
        there = SetPlace.of(sae.config.get("set"))
        if there is not None:
            raise Conflict(
                f"'{sae.name}' is of the set '{there.name}'; an SAE is of one set.",
                "Delete that set first: its SAEs stay.",
                code="in-another-set",
                title="An SAE is of another set",
            )
    for place, sae in enumerate(saes):
        in_set = SetPlace(body.name, place, len(saes))
        sae.config = {**sae.config, "set": in_set._asdict()}
    session.flush()
    return view(session, body.name)


def delete_set(session: Session, name: str, caller: Caller) -> None:
    """``NotFound`` where there is none, ``Conflict`` while a run that has not ended names it,
    ``Forbidden`` where the caller may not change one of its SAEs."""
    lock_names(session)
    saes = saes_of_set(session, name)
    for sae in saes:
        check_owner(caller, sae.created_by, f"the SAE '{sae.name}' of the set '{name}'")
    for run in session.scalars(select(Run).where(Run.state.not_in(ENDED))):
        if name in sets_named(run.spec):
            raise Conflict(
                f"The {run.kind} run {run.id}, which is {run.state}, works on the set '{name}'.",
                "Cancel it first.",
            )
    for sae in saes:
        sae.config = {key: value for key, value in sae.config.items() if key != "set"}


def _locked(session: Session, references: Sequence[str]) -> list[Sae]:
    """The SAEs, each once and of one host model."""
    saes: dict[str, Sae] = {}
    for number, reference in enumerate(references):
        field = f"saes.{number}"
        try:
            sae, host = find_sae(session, reference)
        except NotFound as missing:
            raise InvalidRequest([(field, str(missing))]) from None
        session.refresh(sae, ["config"], with_for_update=True)
        if sae.name in saes:
            raise InvalidRequest([(field, f"'{sae.name}' is named twice")])
        first = next(iter(saes.values()), sae)
        if sae.model_id != first.model_id:
            other = f"'{sae.name}' is of another host model ('{host.name}') than '{first.name}'"
            raise InvalidRequest([(field, other)])
        saes[sae.name] = sae
    return list(saes.values())


def _ordered(saes: Sequence[Sae]) -> list[Sae]:
    """By what they read; refuses those that could not all be put in place at once."""
    by_place: dict[Hook, Sae] = {}
    reads: dict[str, Hook] = {}
    for number, sae in enumerate(saes):
        read, written = _places(sae_hooks(sae), f"saes.{number}", sae.name)
        if written in by_place:
            same = f"'{sae.name}' writes {written}, as '{by_place[written].name}' does"
            raise InvalidRequest([(f"saes.{number}", same)])
        by_place[written], reads[sae.name] = sae, read
    return sorted(saes, key=lambda sae: reads[sae.name].depth)


def _places(hooks: HooksView, field: str, name: str) -> tuple[Hook, Hook]:
    """Where it reads and where it writes."""
    if len(hooks.reads) > 1 or len(hooks.writes) > 1:
        several = f"'{name}' has several places; an SAE of a set reads one and writes one"
        raise InvalidRequest([(field, several)])
    read, written = (Hook(each[0].site, each[0].host) for each in (hooks.reads, hooks.writes))
    try:
        _ = read.depth
    except UnknownSite as unknown:  # of a version that knew another kind
        raise InvalidRequest([(field, f"'{name}': {unknown}")]) from None
    return read, written
