"""Adjusts the weight of a sparsity penalty so that a wanted L0 comes out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_GAIN = 0.02
"""Change of the log weight per step and unit of log L0: large enough to cross a factor of a hundred
within some hundred steps, small beside the time that L0 takes to answer."""

_DAMPING = 0.6
"""Share of the change in log L0 that is taken back at once: without it L0 swings."""

_MOST = 2.0


_SHIFT_GAIN = 0.1
"""Change of the log thresholds per step and unit of log L0.  L0 answers at once, by a factor of
three to ten in its logarithm, so this halves the error in about two steps and cannot swing."""


def threshold_shift(l0: Tensor, target_l0: float) -> Tensor:
    """What to add to all log thresholds after a step of mean L0 ``l0`` (a scalar on the device)."""
    error = (l0.float().clamp_min(1e-2) / target_l0).log()
    return _SHIFT_GAIN * error.clamp(-_MOST, _MOST)


class L0Controller(nn.Module):
    """The weight of a penalty: fixed, or moved by how far log L0 is from its target.

    A buffer, so that it belongs to the state dict and a resumed run goes on with it.
    """

    def __init__(self, target_l0: float | None, coefficient: float) -> None:
        super().__init__()
        self.target_l0 = target_l0
        self.register_buffer("log_weight", torch.tensor(float(coefficient)).log())
        self.register_buffer("last_error", torch.zeros(()))
        self.log_weight: Tensor
        self.last_error: Tensor

    @torch.no_grad()
    def weight(self, l0: Tensor) -> Tensor:
        """The weight for this step, after a look at its mean L0 (a scalar on the device)."""
        if self.target_l0 is not None:
            error = (l0.float().clamp_min(1e-2) / self.target_l0).log().clamp(-_MOST, _MOST)
            self.log_weight += _GAIN * error + _DAMPING * (error - self.last_error) * _GAIN * 10
            self.last_error.copy_(error)
        return self.log_weight.exp()
