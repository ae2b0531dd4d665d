"""What this deployment lets one run take: tokens, latents, devices, memory, trackers."""

from __future__ import annotations

from collections.abc import Iterator

from monosemy.errors import DataError
from monosemy.specs import (
    EvaluateRun,
    IndexRun,
    Part,
    PipelineRun,
    SweepRun,
    TextSpec,
    TrainingSpec,
    TrainRun,
)
from monosemy.specs.memory import training_bytes
from service.kit.errors import InvalidRequest
from service.settings import Settings

LEAST_WIDTH = 16
"""Width taken for a model that this server has not seen: hardly a host model has less."""


def check_ceilings(settings: Settings, spec: Part, width: int | None = None) -> None:
    """422 for a spec that asks for more than the settings allow, with the figure.

    ``width``: of the model's stream, where it is known.  What a worker finds is hardly less.
    """
    faults = list(_beyond(settings, spec, width))
    if faults:
        raise InvalidRequest(faults)


def check_ceilings_here(settings: Settings, spec: Part) -> None:
    """A worker's own look: a spec may be older than the settings.  ``DataError``."""
    for path, why in _beyond(settings, spec, None):
        raise DataError(f"{path}: {why}.")


def _beyond(settings: Settings, spec: Part, width: int | None) -> Iterator[tuple[str, str]]:
    """(path in the spec, what is wrong)"""
    for path, value in _tokens(spec):
        if value is not None and value > settings.max_tokens:
            yield path, _more(f"{value:,} tokens", f"{settings.max_tokens:,}", "MAX_TOKENS")
    if not isinstance(spec, TrainRun | SweepRun | PipelineRun):
        return
    training = spec.training
    yield from _training(settings, training)
    saes = spec.saes if isinstance(spec, SweepRun) else [spec.sae]
    wide = [number for number, sae in enumerate(saes) if sae.d_sae > settings.max_d_sae]
    for number in wide:
        place = f"saes.{number}.d_sae" if isinstance(spec, SweepRun) else "sae.d_sae"
        asked = f"{saes[number].d_sae:,} latents"
        yield place, _more(asked, f"{settings.max_d_sae:,}", "MAX_D_SAE")
    if not wide:
        yield from _memory(settings, spec, width)


def _training(settings: Settings, training: TrainingSpec) -> Iterator[tuple[str, str]]:
    if training.devices > settings.max_devices:
        asked = f"{training.devices} devices"
        yield "training.devices", _more(asked, str(settings.max_devices), "MAX_DEVICES")
    tracker = training.tracker
    if tracker is not None and tracker not in settings.allowed_trackers:
        yield (
            "training.tracker",
            f"this server sends nothing to {tracker}: its operator can, with MONOSEMY_TRACKERS",
        )


def _memory(
    settings: Settings, spec: TrainRun | SweepRun | PipelineRun, width: int | None
) -> Iterator[tuple[str, str]]:
    members: list[TrainRun | PipelineRun] = (
        [*spec.members()] if isinstance(spec, SweepRun) else [spec]
    )
    needed = training_bytes(members, spec.training, width or LEAST_WIDTH)
    if needed > settings.max_memory_mb * 1_000_000:
        asked = f"at least {needed / 1e6:,.0f} MB for SAEs, optimisers and buffer"
        yield "training", _more(asked, f"{settings.max_memory_mb:,} MB", "MAX_MEMORY_MB")


def _tokens(spec: Part) -> Iterator[tuple[str, int | None]]:
    text = getattr(spec, "text", None)
    if isinstance(text, TextSpec):
        yield "text.max_tokens", text.max_tokens
    if isinstance(spec, TrainRun | SweepRun | PipelineRun):
        yield "training.tokens", spec.training.tokens
    evaluation = getattr(spec, "evaluation", None)
    if isinstance(spec, EvaluateRun | PipelineRun) and evaluation is not None:
        yield "evaluation.tokens", evaluation.tokens
        yield "evaluation.reconstruction_tokens", evaluation.reconstruction_tokens
    if isinstance(spec, IndexRun | PipelineRun):
        yield "indexing.max_tokens", spec.indexing.max_tokens


def _more(asked: str, allowed: str, setting: str) -> str:
    return (
        f"this would take {asked}; this server allows {allowed}: its operator can allow more, with "
        f"MONOSEMY_{setting}"
    )
