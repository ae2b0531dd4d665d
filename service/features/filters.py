"""What a listing of features is ordered and filtered by, as addresses name it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Query

from monosemy.specs.latent_classes import LatentClassFilter
from monosemy.specs.rest.attention import FeatureFamily
from monosemy.specs.rest.features import FeatureSort, SortOrder
from monosemy.specs.tags import Tag
from service.database.tables import Sae
from service.features.listing import FeatureFilter
from service.kit.errors import InvalidRequest

Scorer = Annotated[
    str | None,
    Query(
        max_length=100,
        description="Whose scores to sort by and to show. Left out: `detection` where it has scored"
        " the SAE's features, else the first scorer by name that has scored; each score says whose"
        " it is.",
    ),
]
Explained = Annotated[
    bool | None, Query(description="Only features that have, or have not, an explanation.")
]
Words = Annotated[
    str | None,
    Query(min_length=1, max_length=200, description="Words in the label or an explanation."),
]
Tagged = Annotated[Tag | None, Query(description="Only features with this tag.")]
Head = Annotated[
    int | None,
    Query(ge=0, lt=2**15, description="Only features of this attention head, by a survey of them."),
]
Family = Annotated[
    FeatureFamily | None, Query(description="Only attention features of this family, by a survey.")
]
OfClass = Annotated[
    LatentClassFilter | None,
    Query(
        description="Only latents of a crosscoder that write one place (`exclusive`: less than a "
        "tenth of the length elsewhere), all alike (`shared`: at least eight tenths) or some more "
        "weakly (`weak`), as its evaluation has measured; `unknown`: not measured."
    ),
]
Genuine = Annotated[
    bool | None,
    Query(
        description="Only latents of a crosscoder that look exclusive to a place and are, or are "
        "not, by latent scaling (below .1 in the error and .5 in the reconstruction elsewhere)."
    ),
]
Density = Annotated[float | None, Query(ge=0, le=1, description="Share of tokens it fires on.")]


def check_densities(least: float | None, most: float | None) -> None:
    """422 for bounds that no feature can keep."""
    if least is not None and most is not None and least > most:
        raise InvalidRequest([("min_density", f"is larger than max_density ({most})")])


def check_indices(sae: Sae, indices: Sequence[int], field: str) -> None:
    """422 for features that the SAE does not have."""
    beyond = next((each for each in indices if each >= sae.d_sae), None)
    if beyond is not None:
        there = f"'{sae.name}' has features 0 to {sae.d_sae - 1}, not {beyond}"
        raise InvalidRequest([(field, there)])


def _matching(
    scorer: Scorer = None,
    min_density: Density = None,
    max_density: Density = None,
    has_explanation: Explained = None,
    q: Words = None,
    tag: Tagged = None,
    head: Head = None,
    family: Family = None,
    latent_class: OfClass = None,
    genuine: Genuine = None,
) -> FeatureFilter:
    check_densities(min_density, max_density)
    return FeatureFilter(
        scorer=scorer,
        min_density=min_density,
        max_density=max_density,
        has_explanation=has_explanation,
        text=q,
        tag=tag,
        head=head,
        family=family,
        latent_class=latent_class,
        genuine=genuine,
    )


MatchDep = Annotated[FeatureFilter, Depends(_matching)]
"""Which features, in no order: of the query ``scorer``, ``min_density``, ``max_density``,
``has_explanation``, ``q``, ``tag``, ``head``, ``family``, ``latent_class`` and ``genuine``."""


def _filter(
    matching: MatchDep,
    sort: Annotated[
        FeatureSort,
        Query(
            description="`margin`: how far a score's interval begins above its shuffled baseline. "
            "Features without a score come last."
        ),
    ] = ("index"),
    order: SortOrder = "asc",
) -> FeatureFilter:
    return replace(matching, sort=sort, order=order)


FilterDep = Annotated[FeatureFilter, Depends(_filter)]
"""The same by the query ``sort`` and ``order``."""
