"""What a name may be: one rule for SAEs, lists and API keys, wherever they are given a name.

Names stand in addresses, on command lines and in exported files, beside ids.  So a name is one line
of visible text in one spelling, is no id, and needs no escape that somebody on the way may undo.
(References by name or id, such as a spec's ``sae``, are not held to the rule: rows that were stored
before it keep their names.)
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from monosemy.specs.references import Plain

MAX_CHARACTERS = 120
MAX_BYTES = 240
"""In UTF-8.  File systems end at 255, and a number or an ending may follow the name."""

PENDING_SAE = "pending"
"""Stands in a child's spec for the SAE that its pipeline has yet to train."""

LATEST = "latest"
"""Stands for the newest thing of its kind where one is named to be looked at."""

STORED = {"stored": True}
"""Context of a validation that reads what was accepted before: its names are taken as they are."""

_RESERVED = frozenset({PENDING_SAE, LATEST, "new", "common"})
"""Words that mean something where a name may stand."""

_WITH_MEANING = "/\\?#%"
"""Characters that mean something in addresses, also once they are decoded."""

_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters and marks that show nothing, or only change how the one before looks."""

_PATTERN = (
    r"^[^\s\x00-\x1f\x7f-\x9f/\\?#%.~-]"
    r"([^\x00-\x1f\x7f-\x9f/\\?#%]*[^\s\x00-\x1f\x7f-\x9f/\\?#%])?$"
)
"""The greater part of the rule, for the schema."""


def nameable(name: str) -> str:
    """``name`` in Unicode's composed form (NFC), which is how it is stored and compared.

    Raises ``ValueError``, in words for whoever gave it, for what no name may be.
    """
    if not name or name.isspace():
        raise ValueError("a name has at least one visible character")
    try:
        name = unicodedata.normalize("NFC", name)
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        raise ValueError("a name is text, without halves of surrogate pairs") from None
    if name != name.strip():
        raise ValueError("a name has no blanks around it")
    if len(name) > MAX_CHARACTERS or size > MAX_BYTES:
        raise ValueError(
            f"a name has at most {MAX_CHARACTERS} characters and {MAX_BYTES} bytes in UTF-8"
        )
    if unseen := next((each for each in name if _is_unseen(each)), None):
        raise ValueError(f"a name has no control or invisible characters (U+{ord(unseen):04X})")
    if reserved := next((each for each in name if each in _WITH_MEANING), None):
        raise ValueError(f"a name has none of {' '.join(_WITH_MEANING)} (here '{reserved}')")
    if name[0] in ".-~":
        raise ValueError(f"a name does not begin with '{name[0]}'")
    if name.lower().endswith(".html"):
        raise ValueError("a name does not end in .html, which is the address of a page")
    if name.lower() in _RESERVED:
        raise ValueError(f"'{name}' is a word with a meaning of its own; take another name")
    if _is_id(name):
        raise ValueError("this would be taken for an id")
    return name


def spellings(reference: str) -> list[str]:
    """The names that ``reference`` may mean: as it is written, and in composed form."""
    return list(dict.fromkeys((reference, unicodedata.normalize("NFC", reference))))


def _is_unseen(character: str) -> bool:
    """Control, format and unassigned characters, separators but the plain blank, and fillers."""
    if character == " ":
        return False
    category = unicodedata.category(character)
    return category[0] in "CZ" or _UNSEEN.match(character) is not None


def _is_id(name: str) -> bool:
    try:
        uuid.UUID(name)
    except ValueError:
        return False
    return True


def _checked_name(name: str, info: ValidationInfo) -> str:
    return name if info.context == STORED else nameable(name)


Name = Annotated[
    str,
    Plain(),
    AfterValidator(_checked_name),
    Field(
        json_schema_extra={"minLength": 1, "maxLength": MAX_CHARACTERS, "pattern": _PATTERN},
    ),
]
"""A name that somebody gives."""
