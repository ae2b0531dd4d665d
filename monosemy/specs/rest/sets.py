"""Sets of SAEs as the API shows them."""

from __future__ import annotations

import datetime as dt

from pydantic import BaseModel

from monosemy.specs.described import Described
from monosemy.specs.rest.saes import ModelBrief, SaeSummary


class SetSummary(Described):
    """SAEs of one host model in several layers, trained together on the same batches."""

    name: str
    model: ModelBrief
    reads: str
    """The site that is read, `*` for the layer: `blocks.*.mlp.hook_in`."""
    writes: str
    """The site that is reconstructed; the same unless they transcode."""
    layers: list[int]
    """In which layers there is one, ascending."""
    complete: bool
    """Whether every SAE that the set was trained with is still there, and every layer of the host
    model has one."""
    architecture: str
    """Of the first; `mixed` where they differ."""
    d_sae: int
    """Latents of the largest."""
    created_at: dt.datetime
    """Of the newest."""


class SetView(SetSummary):
    """The same, with its SAEs."""

    saes: list[SaeSummary]
    """By layer."""


class SetTable(BaseModel):
    """All sets."""

    items: list[SetSummary]
