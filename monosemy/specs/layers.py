"""A site in each of several layers: ``blocks.*.mlp.hook_in``, and what the star stands for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from monosemy.models.sites import MLP_IN, WHERE_KIND
from monosemy.specs.hooks import MOST_PLACES, as_places
from monosemy.specs.messages import pattern
from monosemy.specs.part import SITE_PATTERN
from monosemy.specs.references import Plain

STAR = "blocks.*."

_PATTERN = pattern(
    SITE_PATTERN.replace(r"\d+", r"(\d+|\*)", 1),
    f"a site as blocks.9.{MLP_IN}, or blocks.*.{MLP_IN} for one in each of layers"
    f" (blocks.LAYER.KIND or blocks.*.KIND, {WHERE_KIND})",
)

LayeredSite = Annotated[str, Plain(), Field(pattern=_PATTERN, max_length=80)]
"""The name of a site, or of one in every layer."""

_Several = Annotated[list[LayeredSite], Field(min_length=1, max_length=MOST_PLACES)]

LayeredPlaces = Annotated[
    _Several, BeforeValidator(as_places, json_schema_input_type=LayeredSite | _Several)
]
"""Several of them, or a single one."""

_RANGE = r"\d{1,4}(-\d{1,4})?"
_RANGES = pattern(rf"^{_RANGE}(,{_RANGE})*$", "layers as 0-29 or 0-5,8")


def layers_of(value: Any) -> Any:
    """``[0, 1, 2, 7]`` of ``"0-2,7"``, ``[3]`` of ``3``; anything else as it is."""
    if isinstance(value, int) and not isinstance(value, bool):
        return [value]
    if not isinstance(value, str) or len(value) > 1000 or not re.fullmatch(_RANGES, value):
        return value
    spans = [part.partition("-") for part in value.split(",")]
    return [
        layer
        for first, _, last in spans
        for layer in range(int(first), min(int(last or first), int(first) + MOST_PLACES) + 1)
    ]


_Layer = Annotated[int, Field(ge=0, le=9999)]
_Listed = Annotated[list[_Layer], Field(min_length=1, max_length=MOST_PLACES)]

Layers = Annotated[
    _Listed,
    BeforeValidator(
        layers_of,
        json_schema_input_type=_Listed
        | _Layer
        | Annotated[str, Plain(), Field(pattern=_RANGES, max_length=1000)],
    ),
]
"""Layers in rising order, a single one, or their ranges: ``0-29``, ``0-5,8``."""


def has_star(places: Sequence[str] | None) -> bool:
    """Whether any of these is a site in every layer."""
    return any(place.startswith(STAR) for place in places or ())


def at_layer(place: str, layer: int) -> str:
    """The site that ``place`` is in that layer."""
    return f"blocks.{layer}.{place.removeprefix(STAR)}" if place.startswith(STAR) else place


def checked_layers(
    sites: Sequence[str], writes: Sequence[str] | None, layers: Sequence[int] | None
) -> None:
    """``ValueError`` where stars and layers do not go together."""
    if has_star(sites) and layers is None:
        raise ValueError("layers must say which layers the * of sites stands for, as 0-29")
    if layers is None:
        if has_star(writes):
            raise ValueError("writes has a *, and sites has none")
        return
    if not has_star(sites):
        raise ValueError("layers are for sites with a *, as blocks.*.mlp.hook_in")
    if any(a >= b for a, b in pairwise(layers)):
        raise ValueError("layers must rise")
    if has_star(writes) and not all(site.startswith(STAR) for site in sites):
        raise ValueError("where writes has a *, every one of sites needs one")
