"""The learning rate over a run."""

from __future__ import annotations

import math

from monosemy.specs import TrainingSpec


def learning_rate(step: int, total_steps: int, spec: TrainingSpec) -> float:
    """Linear warm-up, then constant, then a fall to zero over the last share of steps.

    ``step`` counts from 0; the rate would reach zero at ``total_steps``, one after the last.
    """
    warm = min(1.0, (step + 1) / spec.warmup_steps) if spec.warmup_steps else 1.0
    decay_steps = spec.decay_fraction * total_steps
    left = min(1.0, (total_steps - step) / decay_steps) if decay_steps else 1.0
    if spec.decay == "cosine":
        left = (1 - math.cos(math.pi * left)) / 2
    return spec.learning_rate * min(warm, left)
