"""Lists as the API shows and takes them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from monosemy.specs import Part
from monosemy.specs.described import Described
from monosemy.specs.names import Name
from monosemy.specs.part import NO_NUL
from monosemy.specs.rest.page import Page

MOST_AT_ONCE = 1000
MOST_OF_A_LIST = 50_000

ExportFormat = Literal["csv", "jsonl"]


Description = Annotated[str, StringConstraints(max_length=4000, pattern=NO_NUL)]
Note = Annotated[str, StringConstraints(max_length=2000, pattern=NO_NUL)]


class _View(Described):
    model_config = ConfigDict(from_attributes=True)


class ListSummary(_View):
    """A list without its entries."""

    id: uuid.UUID
    name: str
    description: str
    owner: str
    """Id of the API key that made it, or `local`; only that key and administrators may change it.
    """
    size: int
    """How many entries it has."""
    revision: int
    """Grows with every change, those of entries included."""
    created_at: dt.datetime
    changed_at: dt.datetime


class EntryView(_View):
    """A feature in a list."""

    sae_id: uuid.UUID
    sae: str
    """Name of the SAE."""
    feature: int
    note: str
    position: int
    """Ascending; where an SAE was deleted there are gaps."""
    place: int
    """How many entries stand before it: what `to` of a move counts."""
    label: str | None
    """The feature's evidence label; null where it is not indexed, as are the next four."""
    heading: str | None
    """What to call the feature: an explanation whose score clears its shuffled baseline,
    else `label`; null where it is not indexed."""
    explanation: str | None
    """Label of its best scored explanation, else its newest; null where it has none."""
    density: float | None
    """Share of all indexed tokens on which it fires."""
    max_activation: float | None


class ListDetail(ListSummary):
    """A list and a page of its entries."""

    entries: Page[EntryView]


class NewList(Part):
    """A list to begin."""

    name: Name
    """Unique."""
    description: Description = ""
    """What is gathered."""


class ListChange(Part):
    """What to change of a list; what is left out stays."""

    name: Name | None = None
    """Unique."""
    description: Description | None = None
    """What is gathered."""
    revision: int | None = Field(None, ge=1, lt=2**31)
    """Change it only if it still has this revision; 409 otherwise."""


class FeatureReference(Part):
    """A feature of an SAE."""

    sae: str = Field(min_length=1, max_length=200, pattern=NO_NUL)
    """Id or name of the SAE."""
    feature: int = Field(ge=0, lt=2**31)
    """Index of the latent."""


class NewEntry(FeatureReference):
    """A feature to put into a list."""

    note: Note | None = None
    """Why it is there; None leaves the note of an entry that is there already."""


class NewEntries(Part):
    """Features to put at a list's end."""

    entries: list[NewEntry] = Field(min_length=1, max_length=MOST_AT_ONCE)
    """In this order; those that are there already keep their place."""


class Removal(Part):
    """Features to take out of a list."""

    entries: list[FeatureReference] = Field(min_length=1, max_length=MOST_AT_ONCE)
    """Those that are not there are passed over."""


class Move(Part):
    """Entries to put elsewhere in their list."""

    entries: list[FeatureReference] = Field(min_length=1, max_length=MOST_AT_ONCE)
    """They come to stand together, in this order."""
    to: int = Field(ge=0, lt=2**31)
    """So many of the other entries stand before them: 0 is the beginning; past the end is the end.
    """


class EntriesChanged(_View):
    """What came of it."""

    changed: int
    """Entries added, removed or moved; those added that were there already do not count."""
    size: int
    """How many entries the list has now."""
    revision: int
