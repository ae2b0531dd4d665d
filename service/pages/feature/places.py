"""Where a feature reads and writes, for its page, embeds and files."""

from __future__ import annotations

from dataclasses import dataclass

from monosemy.index.evidence import PlaceEvidence, TokenEffect
from monosemy.specs.rest.features import FeaturePage
from monosemy.specs.rest.saes import HookView
from service.pages.sae_places import place_name


@dataclass(frozen=True)
class FeaturePlace:
    """One place where it reads or writes."""

    name: str
    reads: float | None
    """Share of the squared length of its encoder row; None where it does not read."""
    writes: float | None
    """The same of its decoder row."""
    relative: float | None
    """Length of its decoder row there over that at its strongest place."""
    length: float | None
    """Of its decoder row."""
    promoted: list[TokenEffect]


@dataclass(frozen=True)
class FeaturePlaces:
    """The section on places."""

    places: list[FeaturePlace]
    """Those where it reads or writes; empty where the index has no lengths by place."""
    of: int
    """Places of the SAE."""
    several_read: bool
    """Whether the SAE reads several places, and so on."""
    several_written: bool
    tokens: bool
    """Whether there are promoted tokens of any place."""


def feature_places(page: FeaturePage) -> FeaturePlaces | None:
    """None for an SAE of one place."""
    hooks = page.sae.hooks
    names = _names(hooks.reads) | _names(hooks.writes)
    if len(names) < 2:
        return None
    known = page.evidence.places
    read = sum(each.reads**2 for each in known if each.reads is not None)
    written = sum(each.writes**2 for each in known if each.writes is not None)
    largest = max((each.writes for each in known if each.writes is not None), default=0.0)
    return FeaturePlaces(
        [_place(each, read, written, largest) for each in known],
        len(names),
        len(hooks.reads) > 1,
        len(hooks.writes) > 1,
        any(each.promoted for each in known),
    )


def _names(hooks: list[HookView]) -> set[str]:
    return {place_name(each) for each in hooks}


def _place(each: PlaceEvidence, read: float, written: float, largest: float) -> FeaturePlace:
    reads, writes = each.reads, each.writes
    return FeaturePlace(
        each.place,
        None if reads is None or not read else reads**2 / read,
        None if writes is None or not written else writes**2 / written,
        None if writes is None or not largest else writes / largest,
        writes,
        each.promoted,
    )
