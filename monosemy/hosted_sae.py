"""The host model with an SAE in it, as evaluation, index and scorers take it.  Needs torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.models.columns import Limits, limits, usable
from monosemy.models.host import HostModel
from monosemy.saes.base import SAE
from monosemy.specs.hooks import HOST, Hook, Hooks


@dataclass(frozen=True)
class HostedSAE:
    """A host model, an SAE of it, and the places where it is hooked.

    Raises ``UnknownSite`` for a place that the host model does not have, ``DataError`` for an SAE
    that does not fit its places.
    """

    host: HostModel
    sae: SAE
    hooks: Hooks
    """With the widths of all places, once this is made."""
    max_norm: Limits = None
    """Norm above which its training left tokens out; evaluation and index do the same."""
    stored_as: str | None = None
    """The fingerprint under which the SAE's host model was first stored, if that has been verified:
    work done with it is found again whatever the form of a fingerprint is today."""

    def __post_init__(self) -> None:
        hooks = self.hooks.with_widths(
            lambda hook: (
                self.host.site_width(hook.site) if hook.host == HOST else self.hooks.widths[hook]
            )
        )
        object.__setattr__(self, "hooks", hooks)
        sides = (
            ("reads", hooks.reads, self.sae.d_in),
            ("writes", hooks.writes, self.sae.d_out),
        )
        for does, places, width in sides:
            there = sum(hooks.widths[hook] for hook in places)
            if width != there:
                where = ", ".join(map(str, places))
                raise DataError(
                    f"The SAE {does} {width} numbers, the site {where} gives {there}.",
                    "Use the host model and site that the SAE was trained on.",
                )

        self.sae.check_widths(*([hooks.widths[hook] for hook in places] for _, places, _ in sides))

    @classmethod
    def at(cls, host: HostModel, sae: SAE, reads: str, writes: str | None = None) -> HostedSAE:
        """An SAE that reads one site, and writes there or at another one."""
        return cls(host, sae, Hooks.at(reads, writes))

    @property
    def site(self) -> str:
        """Where it reads; ``DataError`` where that is several places."""
        return self._only(self.hooks.reads, "reads")

    @property
    def writes_to(self) -> str | None:
        """Where its reconstruction belongs, if elsewhere; ``DataError`` as ``target`` has it."""
        return self.target if self.hooks.transcodes else None

    @property
    def target(self) -> str:
        """The site at which the decoder's directions have their meaning; ``DataError`` where they
        belong to several places."""
        return self._only(self.hooks.writes, "writes")

    def _only(self, hooks: tuple[Hook, ...], does: str) -> str:
        if len(hooks) > 1:
            raise DataError(
                f"The SAE {does} at {len(hooks)} places; this takes one that {does} at one."
            )
        return str(hooks[0])

    @property
    def identity(self) -> str:
        """Names the host model's weights and precision: what another one would judge otherwise."""
        return f"{self.stored_as or self.host.fingerprint}:{self.host.dtype}"

    @property
    def no_losses(self) -> str | None:
        """Why its reconstruction cannot be spliced into a host model that predicts tokens; None
        where it can."""
        if self.hooks.other_hosts:
            return f"it is hooked in several host models ({', '.join(self.hooks.other_hosts)})"
        return self.host.abilities.no_logits

    def direction(self, latent: int) -> Tensor:
        """Unit decoder direction ``[width of target]``, float32; ``DataError`` if there is none."""
        _ = self.target
        if not 0 <= latent < self.sae.d_sae:
            raise DataError(f"The SAE has {self.sae.d_sae} latents, so none is number {latent}.")
        row_D = self.sae.decoder_rows(torch.tensor([latent]))[0].float()
        length = float(row_D.norm())
        if not length > 0:
            raise DataError(f"Latent {latent} has an empty decoder direction.")
        return row_D / length

    def read(self, ids_BS: Tensor, mask_BS: Tensor) -> list[Tensor]:
        """Activations ``[B, S, width]`` at each place that is read, of one clean forward."""
        sites = [hook.site for hook in self.hooks.reads]
        captured = self.host.capture(ids_BS, mask_BS, sites)
        return [captured[site] for site in sites]

    def usable(self, parts: list[Tensor]) -> Tensor:
        """Which tokens count, given what is read at each place: see ``columns.usable``."""
        return usable(parts, limits(self.hooks, self.max_norm))

    def joined(self, parts: list[Tensor]) -> Tensor:
        """What the SAE takes, ``[..., d_in]``, of what is read at each place."""
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
