"""/concepts and /concepts/{concept}: features by which texts are told, and written without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query

from monosemy.specs.rest.concepts import ConceptRow, ConceptView
from service.concepts import endpoints
from service.concepts.endpoints import ConceptReference
from service.edge.context import SessionDep
from service.features.repository import labels_of
from service.kit.pagination import DEFAULT_LIMIT, CursorParam
from service.pages.navigation import Nav
from service.pages.page import PageRouter
from service.runs.queries import find_runs
from service.saes.repository import find_sae
from service.saes.views import no_generation

router = PageRouter()

_SHOWN = 50
"""Features that the page has."""


@dataclass(frozen=True)
class Concepts:
    concepts: list[ConceptRow]
    next_cursor: str | None
    sae: str | None


@router.page("/concepts", "concepts.html", nav=Nav("Concepts", 46))
def concepts(
    session: SessionDep,
    sae: Annotated[str | None, Query(max_length=200)] = None,
    cursor: CursorParam = None,
) -> Concepts:
    page = endpoints.list_all(session, sae, DEFAULT_LIMIT, cursor)
    return Concepts(page.items, page.next_cursor, sae)


@dataclass(frozen=True)
class OneConcept:
    it: ConceptView
    has_run: bool
    """Whether the run that made it is still there."""
    shown: int
    labels: dict[int, str]
    """Of the features that are shown."""
    no_generation: str | None
    """Why the host model writes nothing with it."""


@router.page("/concepts/{concept}", "concept.html")
def concept(session: SessionDep, reference: ConceptReference) -> OneConcept:
    it = endpoints.show(session, reference)
    sae, model = find_sae(session, it.sae)
    labels = labels_of(session, sae.id, [each.index for each in it.features[:_SHOWN]])
    why = no_generation(model.info)
    return OneConcept(it, bool(find_runs(session, [it.id])), _SHOWN, labels, why)
