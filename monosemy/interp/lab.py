"""The host model with an SAE in it, for scorers that run the model itself.  Needs torch."""

from __future__ import annotations

from dataclasses import dataclass

from monosemy.models.host import HostModel
from monosemy.saes.base import SAE


@dataclass(frozen=True)
class Lab:
    """A host model, an SAE of it, and the site where it is hooked."""

    host: HostModel
    sae: SAE
    site: str
    """Where the SAE reads."""
    writes_to: str | None = None
    """Where its reconstruction belongs, if elsewhere (transcoders)."""
