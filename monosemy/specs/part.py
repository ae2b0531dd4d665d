"""What every part of a spec has in common."""

from __future__ import annotations

import re
from collections.abc import Hashable
from functools import lru_cache
from typing import Annotated, Any, cast, get_args

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from monosemy.models.sites import FORM, KINDS, RESID_POST
from monosemy.specs.described import Described
from monosemy.specs.messages import pattern
from monosemy.specs.references import Plain, Tokens

SITE_PATTERN = pattern(
    rf"^blocks\.\d+\.({'|'.join(re.escape(kind) for kind in KINDS)})$",
    f"a site as blocks.9.{RESID_POST} ({FORM})",
)

Site = Annotated[str, Plain(), Field(pattern=SITE_PATTERN, max_length=80)]

NO_NUL = pattern(r"^[^\x00]*$", "a text without NUL characters")
"""Postgres stores no NUL."""
MOST_TOKENS = 10**15
"""Largest count of tokens: every sum of such counts is an int64, and exact in JavaScript."""
MOST_LATENTS = 2**31 - 1
"""Largest number of latents, and largest index of one."""
MOST_LISTED = 1_000_000
"""Most features that a list holds."""
LARGE = 1e30
"""Largest weight, rate, ratio, duration or price: finite in float32."""
NAME, PLACE = 200, 1000
"""Longest name, and longest path or address."""
Count = Annotated[int, Tokens(), Field(ge=1, le=MOST_TOKENS)]
"""Of tokens that a run works through."""
Latent = Annotated[int, Field(ge=0, le=MOST_LATENTS)]
"""Index of a latent."""
Seed = Annotated[int, Field(ge=-(2**53) + 1, le=2**53 - 1)]
"""Of random numbers: what every reader of JSON takes exactly."""


def added_later(default: Any, **bounds: Any) -> Any:
    """A field that a spec got after specs had been stored: its dump leaves it out at ``default``,
    since names of folders, keys of checkpoints and digests of submissions hash the dumps of older
    specs.  ``bounds``: other arguments of ``Field``."""
    return Field(default, exclude_if=lambda value: value == default, **bounds)


class Part(Described):
    """Strict base: unknown keys are errors, docstrings under fields become their descriptions."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _a_boolean_is_no_number(cls, data: Any) -> Any:
        """Python would take ``true`` for 1, and pydantic 0.0 or "no" for ``false``, where whoever
        sent it meant something else."""
        fields = data.items() if isinstance(data, dict) else ()
        faults = [
            InitErrorDetails(type=fault, loc=(name,), input=value)
            for name, value in fields
            if name in cls.model_fields
            if (fault := _fault(cast(Hashable, cls.model_fields[name].annotation), value))
        ]
        if faults:
            raise ValidationError.from_exception_data(cls.__name__, faults)
        return data


_NO_NUMBER = PydanticCustomError("no_number", "a number is expected, not true or false")
_NO_BOOLEAN = PydanticCustomError("no_boolean", "true or false is expected")


def _fault(annotation: Hashable, value: Any) -> PydanticCustomError | None:
    """What is wrong with ``value``, or with one in a list of them, as a number or a boolean."""
    expected = _expected(annotation)
    values = value if isinstance(value, list) else [value]
    if expected is float and any(isinstance(each, bool) for each in values):
        return _NO_NUMBER
    if expected is bool and any(isinstance(each, int | float | str) for each in values):
        return None if all(isinstance(each, bool) for each in values) else _NO_BOOLEAN
    return None


@lru_cache
def _expected(annotation: Hashable) -> type | None:
    """``float`` where ``annotation`` takes numbers and no booleans, ``bool`` where it takes
    booleans and neither numbers nor strings."""
    leaves = _leaves(annotation)
    kinds = {str if isinstance(leaf, str) else leaf for leaf in leaves}  # those of literals
    if kinds & {int, float} and not kinds & {bool, Any}:
        return float
    return bool if bool in kinds and not kinds & {int, float, str, Any} else None


def _leaves(annotation: Any) -> list[Any]:
    parts = get_args(annotation)
    return [leaf for part in parts for leaf in _leaves(part)] if parts else [annotation]
