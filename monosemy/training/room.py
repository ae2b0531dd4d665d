"""Whether memory and disk suffice for a training: told before it starts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monosemy.errors import DataError
from monosemy.models.host import HostModel
from monosemy.models.memory import most_bytes
from monosemy.specs import TrainingSpec, TrainRun
from monosemy.specs.hooks import HOST
from monosemy.specs.memory import cache_bytes, checkpoint_bytes, training_bytes


@dataclass(frozen=True)
class Forecast:
    """Bytes that a training will take: ``memory`` for SAEs, optimisers and buffer, the host model
    apart; on disk ``cache`` for activations that are not kept yet, and ``checkpoints``."""

    memory: int
    cache: int
    checkpoints: int

    def megabytes(self) -> dict[str, int]:
        return {f"{name}_mb": round(size / 1e6) for name, size in vars(self).items()}


def forecast(
    specs: Sequence[TrainRun],
    stream: TrainingSpec,
    host: HostModel,
    tokens: int = 0,
    cached_share: float = 0.0,
) -> Forecast:
    """Of SAEs trained on one stream over a text of ``tokens``, of whose activations a share is
    cached already.  ``UnknownSite`` for a place that the host model does not have."""
    # Of other host models the widths are not known yet, and mostly the same.
    own = [hook for spec in specs for hook in spec.hooks.places if hook.host == HOST]
    width = max(host.site_width(hook.site) for hook in own)
    return Forecast(
        training_bytes(specs, stream, width),
        round(cache_bytes(specs, tokens, width) * (1 - cached_share)),
        checkpoint_bytes(specs, stream, width),
    )


def check_memory(needed: Forecast, host: HostModel, allowed: int | None = None) -> None:
    """``DataError`` where a training takes more memory than ``allowed``, or than there is."""
    most = most_bytes(host.device, allowed)
    if needed.memory > most:
        raise DataError(
            f"The training would take {needed.memory / 1e6:,.0f} MB for SAEs, optimisers and "
            f"buffer; {most / 1e6:,.0f} MB may be taken here.",
            "Take fewer latents or SAEs, a smaller training.buffer_tokens or batch_tokens, or "
            "raise MONOSEMY_MAX_MEMORY_MB where there is more.",
        )


def check_disk(needed: Forecast, root: Path) -> None:
    """``DataError`` where a training would write more below ``root`` than is free there."""
    free, total = shutil.disk_usage(root).free, needed.cache + needed.checkpoints
    if total <= free:
        return
    ways = "Free disk space, or take fewer SAEs or a smaller training.buffer_tokens."
    if needed.cache:
        ways = "Free disk space, or set training.cache_activations=false: none are kept then."
    raise DataError(
        f"The training would write {needed.cache / 1e9:,.1f} GB of activations and "
        f"{needed.checkpoints / 1e9:,.1f} GB of checkpoints; {free / 1e9:,.1f} GB are free.",
        ways,
    )
