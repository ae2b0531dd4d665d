"""From the spec of an architecture to an SAE of the class that it names."""

from __future__ import annotations

from monosemy.saes.base import SAE
from monosemy.specs import SAESpec, implementation_of


def create(spec: SAESpec, d_in: int, d_out: int | None = None) -> SAE:
    """An SAE of ``spec`` with zero weights (``initialise`` or load); ``MonosemyError`` where the
    class that it names cannot be had."""
    sae: SAE = implementation_of(spec)(spec, d_in, d_out)
    return sae
