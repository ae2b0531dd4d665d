"""Queues as the API shows and takes them."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from pydantic import BaseModel, Field

from monosemy.specs import Part
from monosemy.specs.described import Described

QueueName = Literal["gpu", "interp"]


class QueueView(Described):
    """One queue, and what is in it."""

    name: QueueName
    paused: bool
    """No run starts; those under way go on."""
    max_running: int | None
    """Most runs under way; null leaves that to the number of workers."""
    queued: int
    running: int
    """Those being cancelled included."""
    changed_at: dt.datetime | None
    """When it was last paused, resumed or limited."""


class Queues(BaseModel):
    items: list[QueueView]


class QueueChange(Part):
    """What to change of a queue; what is left out stays."""

    paused: bool | None = None
    """True: no further run starts; false: runs start again."""
    max_running: int | None = Field(None, ge=0, le=100_000)
    """Most runs under way; 0 removes the limit."""
