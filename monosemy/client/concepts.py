"""Concepts: texts told by features that were found in texts."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from monosemy.client.library import SaeReference, sae_name
from monosemy.client.listing import listed
from monosemy.client.transport import Transport, segment
from monosemy.specs.rest.concepts import ConceptRow, ConceptView

ConceptReference = uuid.UUID | str | ConceptRow | ConceptView
"""Id or name of a concept; or one that was answered before."""


class Concepts:
    """``client.concepts``; every method raises ``ApiError``.  A run of kind ``concept`` makes
    one."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def list(
        self, *, sae: SaeReference | None = None, limit: int | None = None
    ) -> Iterator[ConceptRow]:
        """Newest first, in short; ``sae``: those of it."""
        asked = None if sae is None else sae_name(sae)
        return listed(self._http, ConceptRow, "/concepts", limit, sae=asked)

    def get(self, concept: ConceptReference) -> ConceptView:
        """With its features, and how well texts are told by them."""
        return self._http.call(ConceptView, "GET", _path(concept))

    def delete(self, concept: ConceptReference) -> None:
        """Its run stays."""
        self._http.delete(_path(concept))


def _path(concept: ConceptReference) -> str:
    identity = concept.id if isinstance(concept, ConceptRow | ConceptView) else concept
    return f"/concepts/{segment(identity)}"
