"""What every part of a spec has in common."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Annotated, Any, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

SITE_PATTERN = (
    r"^blocks\.\d+\.(hook_resid_pre|hook_resid_mid|hook_resid_post|hook_attn_out|hook_mlp_out"
    r"|attn\.hook_z|mlp\.hook_post)$"
)

Site = Annotated[str, Field(pattern=SITE_PATTERN, max_length=80)]

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
Count = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
"""Of tokens."""
Latent = Annotated[int, Field(ge=0, le=MOST_LATENTS)]
"""Index of a latent."""
Seed = Annotated[int, Field(ge=-(2**53) + 1, le=2**53 - 1)]
"""Of random numbers: what every reader of JSON takes exactly."""


class Part(BaseModel):
    """Strict base: unknown keys are errors, docstrings under fields become their descriptions."""

    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, frozen=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _a_boolean_is_no_number(cls, data: Any) -> Any:
        """Python would take ``true`` for 1, where whoever sent it meant something else."""
        given = data.items() if isinstance(data, dict) else ()
        faults = [
            InitErrorDetails(type=_NO_NUMBER, loc=(name,), input=value)
            for name, value in given
            if _holds_boolean(value) and name in cls.model_fields
            if _is_numeric(cast(Hashable, cls.model_fields[name].annotation))
        ]
        if faults:
            raise ValidationError.from_exception_data(cls.__name__, faults)
        return data


_NO_NUMBER = PydanticCustomError("no_number", "a number is expected, not true or false")


def _holds_boolean(value: Any) -> bool:
    return isinstance(value, bool) or (
        isinstance(value, list) and any(isinstance(each, bool) for each in value)
    )


@lru_cache
def _is_numeric(annotation: Hashable) -> bool:
    """Whether numbers, and no booleans, are among what ``annotation`` takes."""
    kinds = set(_leaves(annotation))
    return bool(kinds & {int, float}) and not kinds & {bool, Any}


def _leaves(annotation: Any) -> list[Any]:
    parts = get_args(annotation)
    return [leaf for part in parts for leaf in _leaves(part)] if parts else [annotation]
