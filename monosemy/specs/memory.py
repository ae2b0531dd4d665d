"""What a training takes in memory, reckoned from its spec alone.  Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from monosemy.specs.parts import TrainingSpec
from monosemy.specs.trainings import TrainRun

_FLOAT = 4
_STATES = {"adam": 2, "signum": 1, "muon": 1}
"""Numbers that an optimiser keeps for each weight."""


def training_bytes(members: Sequence[TrainRun], stream: TrainingSpec, width: int) -> int:
    """``sae_bytes`` and those of the buffer of activations, wherever it lies.

    Where the dtype of the buffer is left to the machine, it counts as float32.
    """
    places = {hook for member in members for hook in member.hooks.places}
    slots = max(stream.buffer_tokens, 2 * stream.batch_tokens)
    number = 2 if stream.buffer_dtype == "bfloat16" else _FLOAT
    return sae_bytes(members, stream, width) + number * slots * width * len(places)


def cache_bytes(members: Sequence[TrainRun], tokens: int, width: int) -> int:
    """Bytes on disk of the cached activations of ``tokens`` tokens; 0 where none are kept."""
    places = {hook for member in members for hook in member.hooks.places}
    kept = any(member.training.cache_activations for member in members)
    return 2 * tokens * width * len(places) if kept else 0


def checkpoint_bytes(members: Sequence[TrainRun], stream: TrainingSpec, width: int) -> int:
    """Bytes on disk of a run's checkpoints at most: SAEs with their states and the buffer, twice,
    since the last stays until the next is whole."""
    return 2 * training_bytes(members, stream, width)


def sae_bytes(members: Sequence[TrainRun], stream: TrainingSpec, width: int) -> int:
    """Bytes of the SAEs with gradients and optimiser states, their frozen-decoder
    baselines, and one batch of pre-activations, of one process.

    ``width`` is that of the activations at every site.  What PyTorch takes beside it, and the host
    model, are not counted.
    """
    shares = stream.devices if stream.split == "dictionary" else 1
    batch = -(-stream.batch_tokens // (1 if shares > 1 else stream.devices))
    trained = 2 + _STATES[stream.optimiser]  # the weight itself, its gradient, the states
    numbers = largest = 0
    for member in members:
        latents = -(-member.sae.d_sae // shares)
        largest = max(largest, latents)
        hooks = member.hooks
        d_read, d_written = len(hooks.reads) * width, len(hooks.writes) * width
        encoder, decoder = member.sae.weights(latents, d_read, d_written)
        numbers += (encoder + decoder) * trained
        if getattr(member.sae, "skip", False):
            numbers += d_read * d_written * trained
        if stream.frozen_decoder_baseline:
            numbers += encoder * trained + decoder
    return _FLOAT * (numbers + batch * largest)
