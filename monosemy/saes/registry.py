"""Architectures by name.  A new one is a file beside ``topk.py`` and a line here."""

from __future__ import annotations

from monosemy.errors import SpecError
from monosemy.saes.base import SAE
from monosemy.saes.matching_pursuit import MatchingPursuitSAE
from monosemy.saes.topk import TopKSAE
from monosemy.specs import SAESpec

ARCHITECTURES: dict[str, type[SAE]] = {
    "matching_pursuit": MatchingPursuitSAE,
    "topk": TopKSAE,
}


def create(spec: SAESpec, d_in: int, d_out: int | None = None) -> SAE:
    """An SAE of ``spec`` with zero weights (``initialise`` or load); ``SpecError`` if unknown."""
    if spec.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise SpecError([("sae.architecture", f"'{spec.architecture}' is unknown; known: {known}")])
    return ARCHITECTURES[spec.architecture](spec, d_in, d_out)
