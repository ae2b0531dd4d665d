"""What pushing latents does to the activations of one forward.  Needs torch.

Strengths are activations of the latent: a push of 3 moves the stream as far as the latent does when
its activation is 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.models.hook_points import Edit

Mode = Literal["add", "orthogonal", "clamp"]


@dataclass(frozen=True)
class Push:
    """One latent, pushed.

    ``add``: ``strength`` times its decoder row is added.  ``orthogonal``: the activation's part
    along the decoder row is replaced by that.  ``clamp``: the latent's own part of the
    reconstruction is replaced by that, whatever the SAE finds; the SAE's error stays.
    """

    latent: int
    strength: float
    mode: Mode = "add"


class Pushes:
    """Several pushes at once, each computed from the activations as they were, then summed."""

    def __init__(self, hosted: HostedSAE, pushes: Sequence[Push]) -> None:
        """Raises ``DataError`` for a latent that is not there or writes nothing."""
        self.hosted, self.pushes = hosted, tuple(pushes)
        for push in self.pushes:
            hosted.direction(push.latent)  # raises
        if not self.pushes:
            raise DataError("There is nothing to push.", "Name at least one feature.")
        rows = [push.latent for push in self.pushes]
        self._rows_PD = hosted.sae.W_dec[rows].detach().float()
        self._strength_P = torch.tensor([push.strength for push in self.pushes]).to(self._rows_PD)
        modes = [push.mode for push in self.pushes]
        self._clamps = [i for i, mode in enumerate(modes) if mode == "clamp"]
        self._turns = [i for i, mode in enumerate(modes) if mode == "orthogonal"]

    def edits(self, where_BS: Tensor) -> Mapping[str, Edit]:
        """For one forward; tokens at which ``where_BS`` is false are left alone."""
        seen: list[Tensor] = []

        def look(acts_BSD: Tensor) -> Tensor:
            seen[:] = [acts_BSD]
            return acts_BSD

        def push(acts_BSD: Tensor) -> Tensor:
            moved_BSD = self._moved(acts_BSD, seen[0] if seen else acts_BSD)
            where = where_BS.to(acts_BSD.device)[..., None]
            return torch.where(where, moved_BSD.to(acts_BSD), acts_BSD)

        if self._clamps and self.hosted.target != self.hosted.site:
            return {self.hosted.site: look, self.hosted.target: push}
        return {self.hosted.target: push}

    def _moved(self, acts_BSD: Tensor, read_BSD: Tensor) -> Tensor:
        """``acts`` after all pushes; ``read`` is what the SAE reads.  Float32."""
        rows_PD = self._rows_PD.to(acts_BSD.device)
        x_BSD = acts_BSD.float()
        strength_BSP = self._strength_P.to(x_BSD.device).expand(*x_BSD.shape[:2], -1).clone()
        if self._clamps:
            strength_BSP[..., self._clamps] -= self._found(read_BSD).to(x_BSD.device)
        if self._turns:
            turned_PD = rows_PD[self._turns]
            along_BSP = x_BSD @ turned_PD.T / turned_PD.square().sum(-1)
            strength_BSP[..., self._turns] -= along_BSP
        return x_BSD + strength_BSP @ rows_PD

    def _found(self, read_BSD: Tensor) -> Tensor:
        """Activations of the clamped latents, ``[B, S, clamped]``."""
        sae = self.hosted.sae
        codes = sae.encode(read_BSD.flatten(0, 1).float().to(sae.device))
        wanted = torch.tensor([self.pushes[i].latent for i in self._clamps], device=sae.device)
        hits_NKP = codes.indices[..., None] == wanted
        found_NP = (codes.values[..., None] * hits_NKP).sum(1)
        return found_NP.unflatten(0, read_BSD.shape[:2])
