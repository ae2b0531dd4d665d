"""What this deployment lets one run take: tokens, latents, devices, memory, trackers."""

from __future__ import annotations

from collections.abc import Iterator

from monosemy.errors import DataError
from monosemy.specs import Part, RunSpec, SAESpec, TrainingSpec
from monosemy.specs.graphs import GraphTrace
from monosemy.specs.memory import training_bytes
from monosemy.specs.references import parts_of, token_counts
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
    for path, count in token_counts(spec):
        if count > settings.max_tokens:
            yield path, _more(f"{count:,} tokens", f"{settings.max_tokens:,}", "MAX_TOKENS")
    for path, tracing in parts_of(spec, GraphTrace):
        if tracing.devices > settings.max_devices:
            yield _devices(settings, path, tracing.devices)
    for path, training in parts_of(spec, TrainingSpec):
        yield from _training(settings, path, training)
    wide = [each for each in parts_of(spec, SAESpec) if each[1].d_sae > settings.max_d_sae]
    for path, sae in wide:
        asked = f"{sae.d_sae:,} latents"
        yield f"{path}.d_sae", _more(asked, f"{settings.max_d_sae:,}", "MAX_D_SAE")
    if not wide and isinstance(spec, RunSpec):
        yield from _memory(settings, spec, width)


def _training(settings: Settings, path: str, training: TrainingSpec) -> Iterator[tuple[str, str]]:
    if training.devices > settings.max_devices:
        yield _devices(settings, path, training.devices)
    tracker = training.tracker
    if tracker is not None and tracker not in settings.allowed_trackers:
        yield (
            f"{path}.tracker",
            f"this server sends nothing to {tracker}: its operator can, with MONOSEMY_TRACKERS",
        )


def _devices(settings: Settings, path: str, asked: int) -> tuple[str, str]:
    return (
        f"{path}.devices",
        _more(f"{asked} devices", str(settings.max_devices), "MAX_DEVICES"),
    )


def _memory(settings: Settings, spec: RunSpec, width: int | None) -> Iterator[tuple[str, str]]:
    trainings = spec.trainings()
    if not trainings:
        return
    needed = training_bytes(trainings, trainings[0].training, width or LEAST_WIDTH)
    if needed > settings.max_memory_mb * 1_000_000:
        asked = f"at least {needed / 1e6:,.0f} MB for SAEs, optimisers and buffer"
        yield "training", _more(asked, f"{settings.max_memory_mb:,} MB", "MAX_MEMORY_MB")


def _more(asked: str, allowed: str, setting: str) -> str:
    return (
        f"this would take {asked}; this server allows {allowed}: its operator can allow more, with "
        f"MONOSEMY_{setting}"
    )
