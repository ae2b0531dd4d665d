"""Architectures by name.  A new one is a file beside ``topk.py`` and a line here."""

from __future__ import annotations

from monosemy.errors import SpecError
from monosemy.saes.base import SAE
from monosemy.saes.batchtopk import BatchTopKSAE
from monosemy.saes.gated import GatedSAE
from monosemy.saes.jumprelu import JumpReLUSAE
from monosemy.saes.matching_pursuit import MatchingPursuitSAE
from monosemy.saes.matryoshka import MatryoshkaSAE
from monosemy.saes.relu import ReLUSAE
from monosemy.saes.topk import TopKSAE
from monosemy.saes.transcoder import TranscoderSAE
from monosemy.specs import SAESpec

ARCHITECTURES: dict[str, type[SAE]] = {
    "topk": TopKSAE,
    "batchtopk": BatchTopKSAE,
    "matryoshka": MatryoshkaSAE,
    "matching_pursuit": MatchingPursuitSAE,
    "relu": ReLUSAE,
    "gated": GatedSAE,
    "jumprelu": JumpReLUSAE,
    "transcoder": TranscoderSAE,
}


def create(spec: SAESpec, d_in: int, d_out: int | None = None) -> SAE:
    """An SAE of ``spec`` with zero weights (``initialise`` or load); ``SpecError`` if unknown."""
    if spec.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise SpecError([("sae.architecture", f"'{spec.architecture}' is unknown; known: {known}")])
    return ARCHITECTURES[spec.architecture](spec, d_in, d_out)
