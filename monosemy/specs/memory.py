"""What a training takes in memory, reckoned from its spec alone.  Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from monosemy.specs.kinds import TrainRun
from monosemy.specs.parts import TrainingSpec

_FLOAT = 4
_STATES = {"adam": 2, "signum": 1, "muon": 1}
"""Numbers that an optimiser keeps for each weight."""


def training_bytes(members: Sequence[TrainRun], stream: TrainingSpec, width: int) -> int:
    """Bytes of the SAEs with gradients and optimiser states, their frozen twins, the buffer of
    activations and one batch of pre-activations, of one process.

    ``width`` is that of the activations at every site.  What PyTorch takes beside it, and the host
    model, are not counted.
    """
    shares = stream.devices if stream.split == "dictionary" else 1
    batch = stream.batch_tokens if stream.split == "dictionary" else _share(stream)
    states = 0
    for member in members:
        latents = -(-member.sae.d_sae // shares)
        matrices = 2 * latents * width
        if getattr(member.sae, "skip", False):
            matrices += width * width
        twin = 2 if stream.frozen_decoder_baseline else 1
        states += matrices * twin * (2 + _STATES[stream.optimiser])  # weights, gradients, states
    places = {member.site for member in members}
    places |= {site for m in members if (site := getattr(m.sae, "target_site", None)) is not None}
    buffer = max(stream.buffer_tokens, 2 * stream.batch_tokens) * width * len(places)
    largest = max(-(-member.sae.d_sae // shares) for member in members)
    return _FLOAT * (states + buffer + batch * largest)


def _share(stream: TrainingSpec) -> int:
    return -(-stream.batch_tokens // stream.devices)
