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
    batch = -(-stream.batch_tokens // (1 if shares > 1 else stream.devices))
    trained = 2 + _STATES[stream.optimiser]  # the weight itself, its gradient, the states
    numbers = largest = 0
    for member in members:
        latents = -(-member.sae.d_sae // shares)
        largest = max(largest, latents)
        half = latents * width  # encoder, or decoder
        numbers += 2 * half * trained
        if getattr(member.sae, "skip", False):
            numbers += width * width * trained
        if stream.frozen_decoder_baseline:
            numbers += half * (trained + 1)
    sites = {member.site for member in members}
    sites |= {site for m in members if (site := getattr(m.sae, "target_site", None)) is not None}
    buffer = max(stream.buffer_tokens, 2 * stream.batch_tokens) * width * len(sites)
    return _FLOAT * (numbers + buffer + batch * largest)
