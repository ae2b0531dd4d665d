"""Features that wait for a person, one by one: as the API shows them."""

from __future__ import annotations

import uuid
from typing import Literal

from monosemy.specs.described import Described
from monosemy.specs.rest.page import Page

LabellingMode = Literal["write", "vote", "judge"]
"""``write``: an explanation of one's own; ``vote``: for or against the explanations there are;
``judge``: the detection test of the best of them."""


class LabellingItem(Described):
    """A feature to be labelled."""

    sae_id: uuid.UUID
    sae: str
    """Name of the SAE."""
    feature: int
    explanation: uuid.UUID | None
    """The best scored one, else the newest, that is not the caller's own; null where there is none.
    """
    done: bool
    """Whether the caller has done it: has an explanation, a vote or an ended sitting there."""


class LabellingPage(Page[LabellingItem]):
    """Features in their order, and how far the caller has come."""

    total: int
    """Features in all."""
    done: int
    """Those that the caller has done."""
