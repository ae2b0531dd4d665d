"""What a feature's evidence says of the places of its SAE."""

from __future__ import annotations

from monosemy.index.evidence import FeatureEvidence
from monosemy.specs import ARCHITECTURES
from monosemy.specs.latent_classes import LatentClass, class_of_norms
from monosemy.specs.places import CrosscoderOptions
from service.database.tables import Sae
from service.saes.views import sae_hooks


def latent_class(sae: Sae, evidence: FeatureEvidence) -> LatentClass | None:
    """Of a crosscoder's latent; None for other SAEs, and where lengths by place are not known."""
    spec = ARCHITECTURES.get(sae.architecture)
    if spec is None or not issubclass(spec, CrosscoderOptions) or not evidence.places:
        return None
    norms = [each.writes for each in evidence.places if each.writes is not None]
    silent = len(sae_hooks(sae).writes) - len(norms)
    return class_of_norms(norms + [0.0] * silent)
