"""What positions do to queries and keys: dimensions turned in pairs (RoPE), measured on the prompt.

Which dimensions form pairs, and how many turn at all, differs between families (halves, neighbours,
a part of the head).  Pairs are found by fitting, angles and factors are read off what the model
made of each position, so that any frequencies, scalings and offsets are those of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pairing:
    """Which dimensions of a head turn together: ``partner[partner[e]] == e``, ``sign`` of the sine
    in dimension e.  A dimension that is its own partner is only scaled."""

    partner_E: Tensor
    sign_E: Tensor

    def to(self, device: torch.device) -> Pairing:
        return Pairing(self.partner_E.to(device), self.sign_E.to(device))


@dataclass(frozen=True)
class Turn:
    """For each position a map of heads, ``y[e] = cos[e] x[e] + sin[e] sign[e] x[partner]``."""

    pairing: Pairing
    cos_SE: Tensor
    sin_SE: Tensor

    def __call__(self, x_SHE: Tensor) -> Tensor:
        """Vectors ``[S, ..., E]`` at the positions of the prompt."""
        extra = (1,) * (x_SHE.ndim - 2)
        shape = (self.cos_SE.shape[0], *extra, self.cos_SE.shape[1])
        other = x_SHE[..., self.pairing.partner_E] * self.pairing.sign_E
        return x_SHE * self.cos_SE.view(shape) + other * self.sin_SE.view(shape)

    def at(self, position: int, x_NE: Tensor) -> Tensor:
        """Vectors ``[..., E]`` at one position."""
        other = x_NE[..., self.pairing.partner_E] * self.pairing.sign_E
        return x_NE * self.cos_SE[position] + other * self.sin_SE[position]


def measured(pairing: Pairing, x_SHE: Tensor, y_SHE: Tensor) -> Turn:
    """The map of this pairing that fits ``y`` best, at each position over all heads."""
    partner, sign = pairing.partner_E, pairing.sign_E
    other = x_SHE[..., partner] * sign
    alone = partner == torch.arange(len(partner), device=partner.device)
    along, across = (x_SHE * y_SHE).sum(1), (other * y_SHE).sum(1)
    size = x_SHE.square().sum(1)
    # Both dimensions of a pair turn by one angle: their equations are solved together.
    along, across, size = (
        torch.where(alone, each, each + each[:, partner]) for each in (along, across, size)
    )
    size = size.clamp_min(torch.finfo(size.dtype).tiny)
    return Turn(pairing, along / size, torch.where(alone, 0.0, across / size))


def find_pairing(x_SHE: Tensor, y_SHE: Tensor, tolerance: float) -> Pairing | None:
    """The first pairing under which some map for each position makes ``y`` of ``x``, up to
    ``tolerance`` of its norm; None where there is none."""
    for pairing in _pairings(x_SHE.shape[-1]):
        pairing = pairing.to(x_SHE.device)
        if distance(measured(pairing, x_SHE, y_SHE)(x_SHE), y_SHE) <= tolerance:
            return pairing
    return None


def distance(value: Tensor, wanted: Tensor) -> float:
    """Of two tensors, as a share of the norm of the second."""
    value, wanted = value.detach(), wanted.detach()
    return float((value - wanted).norm() / wanted.norm().clamp_min(1e-30))


def _pairings(width: int) -> Iterator[Pairing]:
    """None at all, then halves and neighbours of the whole head and of ever fewer of its first and
    last dimensions."""
    yield Pairing(torch.arange(width), torch.ones(width))
    for turning in range(width - width % 2, 0, -2):
        for start in dict.fromkeys((0, width - turning)):
            yield _halves(width, start, turning)
            yield _neighbours(width, start, turning)


def _halves(width: int, start: int, turning: int) -> Pairing:
    partner, sign = torch.arange(width), torch.ones(width)
    half = turning // 2
    first, second = slice(start, start + half), slice(start + half, start + turning)
    partner[first], partner[second] = partner[second].clone(), partner[first].clone()
    sign[first] = -1
    return Pairing(partner, sign)


def _neighbours(width: int, start: int, turning: int) -> Pairing:
    partner, sign = torch.arange(width), torch.ones(width)
    even = torch.arange(start, start + turning, 2)
    partner[even], partner[even + 1] = even + 1, even
    sign[even] = -1
    return Pairing(partner, sign)
