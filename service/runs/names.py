"""Names of what runs make: some must be free, others get a number where they are taken."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from monosemy.errors import SpecError
from monosemy.specs import KINDS, Part, RunSpec, parse_stored_spec
from monosemy.specs.rest.runs import RunDetail
from monosemy.specs.run_states import ACTIVE
from service.concepts import repository as concepts
from service.database.tables import Run, Sae
from service.graphs import repository as graphs
from service.kit.errors import NameTaken

_CHECKS = {"concept": concepts.check_free, "graph": graphs.check_free}


def check_unique_name(session: Session, spec: Part) -> None:
    """``NameTaken`` where the name that ``spec`` gives must be the only one and is not: what is
    there has it, or what a run that has not ended makes."""
    if not isinstance(spec, RunSpec) or spec.unique_name is None:
        return
    what, name = spec.unique_name, getattr(spec, "name", None)
    for each in spec.unique_names():
        _CHECKS[what](session, each)
    if not isinstance(name, str):
        return
    kinds = [kind for kind, each in KINDS.items() if each.unique_name == what]
    query = select(Run.id).where(
        Run.kind.in_(kinds), Run.state.in_(ACTIVE), Run.spec["name"].astext == name
    )
    other = session.scalar(query.limit(1))
    if other is not None:
        raise NameTaken(f"The run {other} is to make a {what} named '{name}'.")


def name_warnings(session: Session, run: RunDetail) -> list[str]:
    """A sentence where an SAE, or a set, is not called as the spec asks, or will not be."""
    if not run.spec.get("name") or run.kind not in KINDS:
        return []
    try:
        spec = parse_stored_spec(run.spec)
    except SpecError:
        return []
    asked = list(spec.made_names())
    if not asked:
        return []
    if run.result is None:
        taken = _taken(session, run.id, asked) if run.state in ACTIVE else []
        return [
            f"There is an SAE named '{each}' already: this one gets a number." for each in taken
        ]
    given, sets = _names(run.result)
    pairs = [("SAE", *each) for each in zip(asked, given, strict=False)]
    pairs += [("set", *each) for each in zip(spec.made_sets(), sets, strict=False)]
    return [
        f"There was {'an' if what == 'SAE' else 'a'} {what} named '{wanted}' already: this one is"
        f" named '{name}'."
        for what, wanted, name in pairs
        if name is not None and name != wanted
    ]


def _taken(session: Session, run: uuid.UUID, names: Iterable[str]) -> Sequence[str]:
    """Those of ``names`` that SAEs of other runs have."""
    query = select(Sae.name).where(Sae.name.in_(names), Sae.run_id.is_distinct_from(run))
    return session.scalars(query.order_by(Sae.name)).all()


def _names(result: Mapping[str, Any]) -> tuple[list[str | None], list[str | None]]:
    """Of the SAEs that a run made, in their order, and of their sets, each once."""
    saes = result.get("saes")
    members = [each for each in saes if isinstance(each, Mapping)] if isinstance(saes, list) else []

    def of(each: Mapping[str, Any], key: str) -> str | None:
        return each[key] if isinstance(each.get(key), str) else None

    names = [of(each, "name") for each in members or [result]]
    return names, list(dict.fromkeys(name for each in members if (name := of(each, "set"))))
