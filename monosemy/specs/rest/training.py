"""Readings of a training as the API shows them."""

from __future__ import annotations

import uuid
from typing import Any

from monosemy.specs.described import Described
from monosemy.specs.readings import StoredFigures, TrainingReading
from monosemy.specs.run_states import RunState


class SaeReadings(Described):
    """The training of one SAE."""

    place: int
    """Among the SAEs that the run trains, in the order of its sites, SAEs, rates and seeds."""
    name: str | None
    sae_id: uuid.UUID | None
    """Once the run has succeeded."""
    spec: dict[str, Any]
    """The train spec of this SAE alone; empty where it cannot be read any more."""
    metrics: StoredFigures | None
    """Its figures at the end, the density histogram among them."""
    recorded: int
    """Readings there are after the step that was asked for."""
    readings: list[TrainingReading]
    """By step; evenly spread where there are more than were asked for, the newest among them."""


class TrainingReadings(Described):
    """How a training goes, or went."""

    run_id: uuid.UUID
    """The run that trains: of a pipeline, its step."""
    state: RunState
    total_tokens: int | None
    """Tokens of the whole training."""
    saes: list[SaeReadings]
