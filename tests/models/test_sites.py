"""Names of sites."""

from __future__ import annotations

import re

import pytest

from monosemy.errors import UnknownSite
from monosemy.models.sites import KINDS, Site, parse_site
from monosemy.specs.part import SITE_PATTERN


@pytest.mark.parametrize("kind", KINDS)
def test_names_round_trip_and_are_what_specs_accept(kind: str) -> None:
    name = f"blocks.12.{kind}"
    assert parse_site(name) == Site(12, kind)
    assert str(parse_site(name)) == name
    assert re.fullmatch(SITE_PATTERN, name)


@pytest.mark.parametrize(
    "name",
    ["", "blocks.1", "blocks.x.hook_z", "blocks.1.hook_z", "blocks.-1.hook_resid_pre", "layers.1"],
)
def test_other_names_are_refused_with_the_pattern(name: str) -> None:
    with pytest.raises(UnknownSite, match=r"blocks\.LAYER\.KIND"):
        parse_site(name)
