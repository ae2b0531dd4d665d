"""Rows of a crosscoder of two host models, whose latents write what is planted."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from monosemy.index.evidence import FeatureEvidence, PlaceEvidence, TokenEffect
from monosemy.specs.hooks import Hooks
from monosemy.specs.latent_classes import LatentClass, ScaledLatent
from service.database.tables import Feature, Sae
from tests.support.library_rows import Library, add_library

BASE, TUNED = "blocks.1.hook_resid_post", "chat:blocks.1.hook_resid_post"
NORMS = [
    (1.0, 0.0),
    (1.0, 0.05),
    (0.2, 1.0),
    (0.9, 1.0),
    (0.0, 0.0),
    (0.02, 1.0),
    (1.0, 1.0),
    (1.0, 0.5),
]
"""Of what each latent writes at either place."""
CLASSES = ["exclusive", "exclusive", "weak", "shared", None, "exclusive", "shared", "weak"]


def add_crosscoder(session: Session, name: str = "crosscoder") -> Library:
    """Latents 1 to 4 of every five fire (``library_rows``); latent 4 writes nothing."""
    library = add_library(session, name, len(NORMS))
    row = session.get_one(Sae, library.sae)
    hooks = Hooks.at([BASE, TUNED]).with_widths(lambda _hook: 16)
    row.architecture = "crosscoder"
    row.config = {**row.config, "hooks": hooks.as_dict()}
    for feature in session.scalars(select(Feature).where(Feature.sae_id == library.sae)):
        places = _places(NORMS[feature.index])
        evidence = replace(FeatureEvidence.from_dict(feature.evidence), places=places)
        feature.evidence = evidence.as_dict()
    session.flush()
    return library


E, W, S = LatentClass.EXCLUSIVE, LatentClass.WEAK, LatentClass.SHARED
MEASURED = [
    ScaledLatent(0, E, BASE, True, 0.02, 0.3),
    ScaledLatent(1, E, BASE, False, 0.4, None),
    ScaledLatent(2, W, TUNED, None, 0.2, 0.1),
    ScaledLatent(3, S, TUNED, None, 0.9, 0.8),
    ScaledLatent(5, E, TUNED, True, 0.01, 0.02),
]
"""What an evaluation has measured; latents 4, 6 and 7 did not fire in it."""


def _places(norms: tuple[float, float]) -> list[PlaceEvidence]:
    tokens = [TokenEffect(2, " king", 2.5), TokenEffect(3, "<b>queen", 0.5)]
    both = zip((BASE, TUNED), norms, ([*tokens], []), strict=True)
    return [
        PlaceEvidence(place, norm / 2, norm, promoted) for place, norm, promoted in both if norm > 0
    ]
