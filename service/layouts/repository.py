"""All SQL on layouts; nothing here commits."""

from __future__ import annotations

import uuid

import numpy as np
import numpy.typing as npt
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from monosemy.specs.rest.layouts import LayoutSummary
from service.database.layout_tables import SaeLayout
from service.database.storable import storable
from service.database.tables import Feature

Floats = npt.NDArray[np.float32]


def layout_row(session: Session, sae: uuid.UUID) -> SaeLayout | None:
    """Without the places, which are loaded when they are looked at."""
    return session.get(SaeLayout, sae)


def replace_layout(
    session: Session,
    sae: uuid.UUID,
    run: uuid.UUID | None,
    summary: LayoutSummary,
    files: str,
    places: Floats,
) -> None:
    """``places`` [d_sae, 2] in place of those that the SAE had."""
    session.execute(delete(SaeLayout).where(SaeLayout.sae_id == sae))
    session.add(
        SaeLayout(
            sae_id=sae,
            run_id=run,
            summary=storable(summary.model_dump(mode="json")),
            files=files,
            places=places.T.astype("<f4").tobytes(),
        )
    )
    session.flush()


def places_of(row: SaeLayout) -> Floats:
    """[2, d_sae]: x and y of every latent, NaN for those that are left out."""
    return np.frombuffer(row.places, "<f4").reshape(2, -1)


def which_fire(session: Session, sae: uuid.UUID, d_sae: int) -> npt.NDArray[np.bool_]:
    """[d_sae]: which features fire at all, by the SAE's index."""
    fires = np.zeros(d_sae, bool)
    query = select(Feature.index).where(Feature.sae_id == sae, Feature.postings > 0)
    fires[list(session.scalars(query))] = True
    return fires
