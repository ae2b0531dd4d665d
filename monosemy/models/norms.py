"""A norm with its denominator held: ``y = gain * (x [- mean]) / sigma + shift``, affine in x.

Gain, shift and whether the mean is taken off are measured on the module, not read from its
parameters: some families store ``weight``, some ``weight - 1``.  The denominator is recovered from
what the norm really gave, so that epsilons and precision need no formula either.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_TOLERANCE = 1e-4
"""Of a norm in float32, as a share of its output: families add their epsilon here or there."""


@dataclass(frozen=True)
class FrozenNorm:
    """A norm over the last dimension whose ``gain`` and ``shift`` have the shape ``[..., D]`` of
    one token's vector (heads apart where the module takes them apart), float32."""

    module: nn.Module
    gain: Tensor
    shift: Tensor
    centred: bool

    def centre(self, x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def inverse(self, x: Tensor, y: Tensor) -> Tensor:
        """``1 / sigma`` of each vector, ``[..., 1]``, where the norm made ``y`` of ``x``."""
        scaled = self.gain * self.centre(x)
        along = (scaled * (y - self.shift)).sum(-1, keepdim=True)
        return along / scaled.square().sum(-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)

    def linear(self, x: Tensor, inverse: Tensor) -> Tensor:
        """What it makes of a part ``x`` of a vector, without the shift."""
        return self.gain * self.centre(x) * inverse

    def transposed(self, direction: Tensor, inverse: Tensor) -> Tensor:
        """The direction before the norm that reads what ``direction`` reads behind it."""
        return self.centre(self.gain * direction) * inverse


@dataclass(frozen=True, eq=False)
class Normalised:
    """What a norm has divided, before gain and shift: a value within its module (``Within``)."""

    norm: FrozenNorm

    def read(self, taken: Tensor, given: Tensor) -> Tensor:
        """``(x [- mean]) / sigma``, in the dtype of what the norm gives."""
        x = taken.float()
        return (self.norm.centre(x) * self.norm.inverse(x, given.float())).to(given.dtype)

    def written(self, before: Tensor, after: Tensor, given: Tensor) -> Tensor:
        """Gain and shift upon ``after`` at those tokens where it differs."""
        moved = (after != before).any(-1, keepdim=True)
        value = self.norm.gain * after.float() + self.norm.shift
        return torch.where(moved, value.to(given.dtype), given)


def frozen_norm(
    module: nn.Module, shape: tuple[int, ...], device: torch.device
) -> FrozenNorm | None:
    """The norm's frozen form, measured on vectors of ``shape``; None where it has none.

    ``shape`` is that of one token's vector as the module takes it.
    """
    exact = copy.deepcopy(module).float().cpu()
    generator = torch.Generator().manual_seed(0)
    probe = balanced(shape[-1]).expand(shape)
    random = torch.randn(4, *shape, generator=generator) + torch.linspace(-1, 1, shape[-1])
    try:
        with torch.no_grad():
            up, down = (exact(sign * probe[None, None])[0, 0] for sign in (1.0, -1.0))
            given = exact(random[None])[0]
    except (RuntimeError, TypeError, ValueError, IndexError):
        return None
    if given.shape != random.shape:
        return None
    gain, shift = (up - down) / (2 * probe), (up + down) / 2
    for centred in (False, True):
        norm = FrozenNorm(module, gain, shift, centred)
        off = given - shift - norm.linear(random, norm.inverse(random, given))
        if float(off.norm()) <= _TOLERANCE * float(given.norm()):
            return FrozenNorm(module, gain.to(device), shift.to(device), centred)
    return None


def balanced(width: int) -> Tensor:
    """A vector of mean 0 and mean square 1 without zeros: LayerNorm and RMSNorm leave it alone."""
    signs = torch.ones(width)
    signs[1::2] = -1
    if width % 2:
        signs[-1], signs[0] = 0.5, 0.5
    return signs / signs.square().mean().sqrt()
