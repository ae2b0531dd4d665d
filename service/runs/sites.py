"""Sites that a spec names, held against its host model where that is known here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy.orm import Session

from monosemy.specs import ModelSpec, Part
from monosemy.specs.hooks import Hook
from monosemy.specs.layers import at_layer, has_star
from service.database.tables import Model
from service.kit.errors import InvalidRequest
from service.models.repository import model_of_spec
from service.models.sites import site_fault
from service.runs.readable_paths import FILES, begins_as_path


def check_sites(session: Session, spec: Part) -> None:
    """422 for sites that the spec's host model does not have, where that model is known here.

    What is in a folder may be another model by now: that is left to the worker.
    """
    models: dict[str, Model | None] = {}
    faults: dict[str, str] = {}
    for path, hook in _named_sites(spec):
        named = _model_of(spec, hook.host)
        if named is None or begins_as_path(named) or named.endswith(FILES):
            continue
        if named not in models:
            models[named] = model_of_spec(session, named)
        model = models[named]
        if model is not None and (why := site_fault(model, hook.site)) is not None:
            faults.setdefault(path, why)
    if faults:
        raise InvalidRequest(list(faults.items()))


def _named_sites(spec: Part) -> Iterator[tuple[str, Hook]]:
    """(path, site) of each that the spec names, those with a star once for each layer."""
    layers: Iterable[int] = getattr(spec, "layers", None) or ()
    first = getattr(spec, "reads", None) or ()
    for field in ("site", "sites", "reads", "writes"):
        given: Any = getattr(spec, field, None)
        if given is None or (field == "site" and given in first):
            continue
        names = [given] if isinstance(given, str) else list(given)
        for number, name in enumerate(names):
            path = field if isinstance(given, str) else f"{field}.{number}"
            for layer in layers if has_star([name]) else (0,):
                yield path, Hook.parse(at_layer(name, layer))


def _model_of(spec: Part, role: str) -> str | None:
    """The name of the host model in this role; of the run's own where there is none of it."""
    others = {each.role: each.model for each in getattr(spec, "hosts", None) or ()}
    model = others.get(role, getattr(spec, "model", None))
    return model.name if isinstance(model, ModelSpec) else None
