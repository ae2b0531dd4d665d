"""The host model with an SAE in it, for scorers that run the model itself.  Needs torch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from monosemy.errors import DataError
from monosemy.models.host import HostModel
from monosemy.saes.base import SAE


@dataclass(frozen=True)
class HostedSAE:
    """A host model, an SAE of it, and the site where it is hooked."""

    host: HostModel
    sae: SAE
    site: str
    """Where the SAE reads."""
    writes_to: str | None = None
    """Where its reconstruction belongs, if elsewhere (transcoders)."""
    stored_as: str | None = None
    """The fingerprint under which the SAE's host model was first stored, if that has been verified:
    work done with it is found again whatever the form of a fingerprint is today."""

    @property
    def target(self) -> str:
        """The site at which the decoder's directions have their meaning."""
        return self.writes_to or self.site

    @property
    def identity(self) -> str:
        """Names the host model's weights and precision: what another one would judge otherwise."""
        return f"{self.stored_as or self.host.fingerprint}:{self.host.dtype}"

    def direction(self, latent: int) -> Tensor:
        """Unit decoder direction ``[width of target]``, float32; ``DataError`` if there is none."""
        if not 0 <= latent < self.sae.d_sae:
            raise DataError(f"The SAE has {self.sae.d_sae} latents, so none is number {latent}.")
        row_D = self.sae.W_dec[latent].detach().float()
        length = float(row_D.norm())
        if not length > 0:
            raise DataError(f"Latent {latent} has an empty decoder direction.")
        return row_D / length
