"""Edits for ``HostModel.logits``: put something else in place of what a site holds.

An edit takes the activations ``[B, S, width]`` of a site and returns what the model goes on with.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from monosemy.models.hook_points import Edit

Decode = Callable[[Tensor], Tensor]
"""``[n, width] -> [n, width]`` in float32: what an SAE makes of activations."""


def replace(reconstruct: Decode, where_BS: Tensor | None = None) -> Edit:
    """Puts the reconstruction in place of the activations.

    ``where_BS`` (bool) limits it to those tokens, so that BOS, on which no SAE is trained, and
    padding keep their own activations.
    """

    def edit(acts_BSD: Tensor) -> Tensor:
        flat = acts_BSD.reshape(-1, acts_BSD.shape[-1]).float()
        return _where(where_BS, reconstruct(flat).reshape(acts_BSD.shape), acts_BSD)

    return edit


def reconstruction_plus_error(
    reconstruct: Decode, change: Decode | None = None, where_BS: Tensor | None = None
) -> Edit:
    """Reconstruction plus what it misses; ``change`` acts on the reconstruction alone.

    Without ``change`` the clean activations come back, which is the test that a splice is sound.
    """

    def edit(acts_BSD: Tensor) -> Tensor:
        flat = acts_BSD.reshape(-1, acts_BSD.shape[-1]).float()
        reconstruction = reconstruct(flat)
        error = flat - reconstruction
        changed = reconstruction if change is None else change(reconstruction)
        return _where(where_BS, (changed + error).reshape(acts_BSD.shape), acts_BSD)

    return edit


def mean_ablation(mean_D: Tensor, where_BS: Tensor | None = None) -> Edit:
    """Puts one fixed vector, usually the mean activation, in place of every token's."""

    def edit(acts_BSD: Tensor) -> Tensor:
        return _where(where_BS, mean_D.to(acts_BSD).expand_as(acts_BSD), acts_BSD)

    return edit


def zero_ablation(where_BS: Tensor | None = None) -> Edit:
    """Puts zeros in place of the activations."""

    def edit(acts_BSD: Tensor) -> Tensor:
        return _where(where_BS, torch.zeros_like(acts_BSD), acts_BSD)

    return edit


def _where(where_BS: Tensor | None, new: Tensor, old: Tensor) -> Tensor:
    if where_BS is None:
        return new
    chosen = where_BS.to(old.device)[..., None]
    return torch.where(chosen, new.to(old), old)
