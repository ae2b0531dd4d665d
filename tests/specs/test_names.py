"""One rule for all names that somebody gives."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monosemy.errors import SpecError
from monosemy.specs import parse_spec, parse_stored_spec
from monosemy.specs.names import MAX_BYTES, nameable, spellings
from monosemy.specs.rest.lists import ListChange, NewList
from service.keys.service import create_key
from tests.support.bad_names import BAD_NAMES, GOOD_NAMES

AN_ID = "123e4567-e89b-12d3-a456-426614174000"


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_names_that_nothing_can_have(name: str) -> None:
    with pytest.raises(ValueError, match=r"^(a name|this would|'.*' is a word)"):
        nameable(name)


@pytest.mark.parametrize("name", GOOD_NAMES, ids=ascii)
def test_names_that_may_be(name: str) -> None:
    assert nameable(name) == name


@given(st.text())
def test_what_is_a_name_stays_the_same_name(text: str) -> None:
    """Names are in one spelling, fit a file system, and the rule is settled after one look."""
    try:
        name = nameable(text)
    except ValueError:
        return
    assert nameable(name) == name == unicodedata.normalize("NFC", text)
    assert name in spellings(text)
    assert name.isprintable() and len(name.encode()) <= MAX_BYTES
    assert not set(name) & set("/\\?#%\0") and name not in (".", "..")


def test_two_spellings_are_one_name() -> None:
    assert nameable("cafe\u0301") == nameable("caf\u00e9") == "caf\u00e9"


@pytest.mark.parametrize("kind", ["train", "sweep", "import", "pipeline"])
@pytest.mark.parametrize("name", [*BAD_NAMES[:6], AN_ID], ids=ascii)
def test_a_spec_is_refused_at_its_name(kind: str, name: str) -> None:
    spec: dict[str, Any] = {"kind": kind, "name": name}
    if kind == "import":
        spec["source"] = "upload:x"
    with pytest.raises(SpecError) as refused:
        parse_spec(spec)
    ((place, _),) = refused.value.problems
    assert place == "name"
    assert parse_stored_spec(spec).name == name  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", BAD_NAMES[:8], ids=ascii)
def test_lists_and_keys_are_held_to_it(name: str) -> None:
    for model in (NewList, ListChange):
        with pytest.raises(ValueError, match="name"):
            model(name=name)
    with pytest.raises(SpecError, match=r"name: .*no name of a key"):
        create_key(None, name, ["read"], "s" * 40)  # type: ignore[arg-type]
