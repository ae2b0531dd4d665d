"""A set: SAEs of one host model that belong together, one for each of several layers.  No torch.

Each SAE of a set knows it: its row holds a ``SetPlace``, and so does its folder's provenance where
it was trained or imported in the set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from monosemy.specs.kinds import ImportRun
from monosemy.specs.trainings import SweepRun, set_names


class SetPlace(NamedTuple):
    """Where an SAE stands in its set."""

    name: str
    place: int
    """Counts from 0, by layer."""
    size: int
    """SAEs that the set was made with."""

    @classmethod
    def of(cls, stored: Any) -> SetPlace | None:
        """What ``_asdict`` gave, of foreign JSON; None for anything else."""
        if not isinstance(stored, Mapping):
            return None
        name, place, size = (stored.get(field) for field in cls._fields)
        if not isinstance(name, str) or type(place) is not int or type(size) is not int:
            return None
        return cls(name, place, size)


def set_places(spec: SweepRun | ImportRun, name: str) -> list[SetPlace | None]:
    """Of each SAE of a run, its place in the set ``name``, or of several in ``name-0`` and so on;
    None for those of no set."""
    sets = spec.sets()
    result: list[SetPlace | None] = [None] * len(spec.members())
    for called, places in zip(set_names(name, len(sets)), sets, strict=True):
        for place, member in enumerate(places):
            result[member] = SetPlace(called, place, len(places))
    return result
