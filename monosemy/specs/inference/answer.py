"""What every answer of the inference contract has in common."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ConfigDict

from monosemy.specs.described import Described


class Answer(Described):
    """Strict base: unknown keys, NaN and infinity are errors, docstrings under fields become their
    descriptions."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


A = TypeVar("A", bound=Answer)


def parse_answer(model: type[A], content: bytes | str) -> A:
    """``content``, JSON, as ``model``, nothing converted: a boolean or a text is no number.

    Raises ``pydantic.ValidationError``.
    """
    return model.model_validate_json(content, strict=True)
