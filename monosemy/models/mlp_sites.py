"""What a block's MLP reads and gives, proven on the probe as the other sites are.

    module(mlp.hook_in) = mlp.hook_out, bit for bit
    hook_mlp_out = mlp.hook_out, or post_norm(mlp.hook_out) with a sandwich norm, bit for bit
    mlp.hook_in = gain * ln2.hook_normalized + bias, to rounding

The norm is found by its values: its output is what the MLP reads, wherever it takes its input from
(``hook_resid_mid``; ``hook_resid_pre`` in parallel blocks).  One whose output attention reads as
well is no norm of the MLP's own: an edit there would change both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from monosemy.models import sites
from monosemy.models.hook_points import HookPoint
from monosemy.models.norms import Normalised, frozen_norm

_SHARED = "the norm before its MLP is the one before attention as well"
_NO_NORM = "its MLP reads the stream itself, with no norm before it"
_NOT_A_NORM = "what it has before its MLP is no norm with a gain and a bias"


@dataclass
class MLPSites:
    """``points`` by kind of site; ``absent`` says of kinds why they are not there."""

    points: dict[str, HookPoint] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def mlp_sites(
    mlp: nn.Module,
    mixer: nn.Module | None,
    norms: Sequence[nn.Module],
    branch: HookPoint,
    values: Mapping[HookPoint, Tensor],
) -> MLPSites:
    """The sites around ``mlp`` that the recorded ``values`` of the probe confirm.

    ``mixer`` is attention, or what is there in its stead; ``branch`` the point of ``hook_mlp_out``.
    """
    entry, exit_ = HookPoint(mlp, "input"), HookPoint(mlp, "output")
    if entry not in values or exit_ not in values or values[entry].ndim != 3:
        return MLPSites()
    read_BSD, raw_BSD = values[entry], values[exit_]
    if not (_is_added(raw_BSD, exit_, branch, values) and _gives(mlp, read_BSD, raw_BSD)):
        return MLPSites()
    result = MLPSites({sites.MLP_IN: entry, sites.MLP_RAW: exit_})
    norm = next(
        (each for each in norms if _same(values, HookPoint(each, "output"), read_BSD)), None
    )
    if norm is None:
        result.absent[sites.LN2_NORMALIZED] = _NO_NORM
    elif mixer is not None and _same(values, HookPoint(mixer, "input"), read_BSD):
        result.absent[sites.LN2_NORMALIZED] = _SHARED
    else:
        point = _normalised(norm, values.get(HookPoint(norm, "input")), read_BSD)
        if point is None:
            result.absent[sites.LN2_NORMALIZED] = _NOT_A_NORM
        else:
            result.points[sites.LN2_NORMALIZED] = point
    return result


def _is_added(
    raw: Tensor, exit_: HookPoint, branch: HookPoint, values: Mapping[HookPoint, Tensor]
) -> bool:
    """Whether the branch is the MLP's output, or what a norm makes of it."""
    if branch == exit_:
        return True
    into_norm = _same(values, HookPoint(branch.module, "input"), raw)
    return into_norm and _gives(branch.module, raw, values[branch])


def _same(values: Mapping[HookPoint, Tensor], point: HookPoint, wanted: Tensor) -> bool:
    value = values.get(point)
    return value is not None and torch.equal(value, wanted)


def _gives(module: nn.Module, taken: Tensor, given: Tensor) -> bool:
    """Whether the module by itself makes exactly ``given`` of ``taken``."""
    try:
        with torch.no_grad():
            again = module(taken)
    except Exception:  # a foreign module that takes more than its input
        return False
    again = again[0] if isinstance(again, (tuple, list)) else again
    return isinstance(again, Tensor) and torch.equal(again.view_as(given), given)


def _normalised(norm: nn.Module, taken: Tensor | None, given: Tensor) -> HookPoint | None:
    """The point within the norm, if gain and bias lead from there to what it gives."""
    if taken is None or taken.shape != given.shape:
        return None
    frozen = frozen_norm(norm, (int(given.shape[-1]),), given.device)
    if frozen is None:
        return None
    within = Normalised(frozen)
    made = frozen.gain * within.read(taken, given).float() + frozen.shift
    off = float((made - given.float()).norm())
    rounding = 4 * torch.finfo(given.dtype).eps + 1e-5
    return (
        HookPoint(norm, "output", within) if off <= rounding * float(given.float().norm()) else None
    )
