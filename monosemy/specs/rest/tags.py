"""Tags as the API shows and takes them."""

from __future__ import annotations

from pydantic import Field

from monosemy.specs import Part
from monosemy.specs.described import Described
from monosemy.specs.tags import Tag

MOST_OF_A_FEATURE = 50


class TagsOfFeature(Described):
    """What a feature is tagged with, in alphabetical order."""

    items: list[str]


MOST_SAES_OF_A_TAG = 20


class TagOfSae(Described):
    """An SAE some of whose features carry a tag."""

    sae: str
    """Name of the SAE."""
    features: int
    """How many of its features carry it."""


class TagCount(Described):
    """A tag that is in use."""

    tag: str
    features: int
    """How many carry it."""
    saes: list[TagOfSae]
    """Of which SAEs, those with the most features first; at most 20."""


class NewTags(Part):
    """Tags for a feature."""

    tags: list[Tag] = Field(min_length=1, max_length=MOST_OF_A_FEATURE)
    """Written small, with `-` for blanks, whatever was given; those it has already stay."""
