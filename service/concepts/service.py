"""Concepts put into what the API answers, and into what a text is held against."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from monosemy.specs.concepts import FittedConcept
from monosemy.specs.rest.concepts import ConceptRow, ConceptView
from service.concepts import repository
from service.database.concept_tables import Concept
from service.database.tables import Sae
from service.kit.errors import Conflict, InvalidRequest, NotFound
from service.saes.repository import names_of

OTHER_WEIGHTS = "concept-of-other-weights"


def rows(session: Session, concepts: Sequence[Concept]) -> list[ConceptRow]:
    """In short."""
    names = names_of(session, (row.sae_id for row in concepts))
    return [
        ConceptRow(
            **row.summary,
            id=row.id,
            name=row.name,
            sae=names[row.sae_id],
            created_at=row.created_at,
        )
        for row in concepts
        if row.sae_id in names
    ]


def view(session: Session, reference: str) -> ConceptView:
    """``NotFound`` if there is none."""
    row = repository.find_concept(session, reference)
    names = names_of(session, [row.sae_id])
    return ConceptView(
        **row.result,
        id=row.id,
        name=row.name,
        sae=names.get(row.sae_id, ""),
        created_at=row.created_at,
    )


def fitted(session: Session, sae: Sae, references: Sequence[str]) -> list[FittedConcept]:
    """The concepts that a request names, each once.

    ``InvalidRequest`` for one that is not there, is named twice or is of another SAE, at its place;
    ``Conflict`` for one that was found in other weights than the SAE has by now.
    """
    faults, found = [], []
    seen: dict[object, int] = {}
    for number, reference in enumerate(references):
        at = f"concepts.{number}"
        try:
            row = repository.find_concept(session, reference, only=True)
        except NotFound as error:
            faults.append((at, str(error)))
            continue
        if row.sae_id != sae.id:
            faults.append((at, f"'{row.name}' is a concept of another SAE than '{sae.name}'"))
        if row.id in seen:
            faults.append((at, f"'{row.name}' is named twice"))
        seen[row.id] = number
        found.append(row)
    if faults:
        raise InvalidRequest(faults)
    for row in found:
        weights = row.result["weights"]
        if (sae.provenance.get("weights") or {}).get("digest", weights) != weights:
            raise Conflict(
                f"'{row.name}' was found in other weights than '{sae.name}' has now.",
                "Submit its run again.",
                code=OTHER_WEIGHTS,
                title="The concept is of other weights",
            )
    return [FittedConcept.model_validate(row.result["concept"]) for row in found]
