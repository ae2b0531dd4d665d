"""What a feature's evidence says of the places of its SAE."""

from __future__ import annotations

from sqlalchemy.orm import Session

from monosemy.index.evidence import FeatureEvidence
from monosemy.specs.latent_classes import LatentClass, class_of_norms
from monosemy.specs.rest.features import LatentScalingView
from service.crosscoders.repository import latent_row
from service.crosscoders.service import is_crosscoder
from service.database.tables import Sae
from service.saes.views import sae_hooks


def latent_class(sae: Sae, evidence: FeatureEvidence) -> LatentClass | None:
    """Of a crosscoder's latent; None for other SAEs, and where lengths by place are not known."""
    if not is_crosscoder(sae.architecture) or not evidence.places:
        return None
    norms = [each.writes for each in evidence.places if each.writes is not None]
    silent = len(sae_hooks(sae).writes) - len(norms)
    return class_of_norms(norms + [0.0] * silent)


def latent_scaling(session: Session, sae: Sae, index: int) -> LatentScalingView | None:
    """What the evaluation of a crosscoder measured of a latent; None where it did not."""
    row = latent_row(session, sae.id, index) if is_crosscoder(sae.architecture) else None
    return None if row is None else LatentScalingView.model_validate(row)
