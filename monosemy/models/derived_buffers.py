"""Buffers that no file holds: most of them follow from the configuration."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_TOLERANCE = 1e-5
"""Machines differ in the last bits of a power or a sine."""


def underived_buffers(model: Any) -> dict[str, Tensor]:
    """The non-persistent buffers, by name, that are not what their module makes of its
    configuration: somebody has set them.

    Rotary frequencies are the common case.  A module that cannot be rebuilt counts as set.
    """
    persistent = model.state_dict(keep_vars=True).keys()
    fresh: dict[type[nn.Module], nn.Module | None] = {}
    buffers: dict[str, Tensor] = {}
    for name, value in model.named_buffers():
        if name in persistent:
            continue
        owner, _, last = name.rpartition(".")
        module = model.get_submodule(owner)
        if type(module) not in fresh:
            fresh[type(module)] = _anew(module, model.config)
        wanted = getattr(fresh[type(module)], last, None)
        if not _alike(value, wanted):
            buffers[name] = value
    return buffers


def _anew(module: nn.Module, config: Any) -> nn.Module | None:
    config = getattr(module, "config", config)
    for options in ({}, {"layer_idx": 0}):
        try:
            with torch.random.fork_rng(devices=[]):
                built = type(module)(config, **options)
        except Exception:  # other constructors ask for other things
            continue
        return built if isinstance(built, nn.Module) else None
    return None


def _alike(value: Tensor, wanted: Any) -> bool:
    if not isinstance(wanted, Tensor) or wanted.is_meta or wanted.shape != value.shape:
        return False
    ours, theirs = value.detach().cpu(), wanted.detach().cpu().to(value.dtype)
    if not value.is_floating_point():
        return bool(torch.equal(ours, theirs))
    return bool(
        torch.allclose(ours.double(), theirs.double(), rtol=_TOLERANCE, atol=0, equal_nan=True)
    )
