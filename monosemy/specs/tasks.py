"""Tasks whose attributes are known: prompts that say what they are about, and what is asked of
dictionaries on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from monosemy.specs.part import Part, Seed
from monosemy.specs.references import Plain

MOST_PROMPTS = 20_000
"""Of a task."""
_LONGEST = 20_000
"""Characters of a prompt."""
_FURTHEST = 1_000_000
"""Number of a token."""
_NAMES = 64
"""Attributes, and positions, of a prompt."""

Word = Annotated[str, Plain(), Field(min_length=1, max_length=200)]


class AttributeValue(Part):
    """What a prompt is in one respect."""

    name: Word
    value: Word


class TokenPosition(Part):
    """A token of a prompt, by name."""

    name: Word
    token: (
        Annotated[int, Field(ge=-_FURTHEST, le=_FURTHEST)]
        | Annotated[str, Plain(), Field(min_length=1, max_length=200)]
    )
    """Its number among the tokens of the text, from 0, or from the end (-1 is the last); or a piece
    of the text: the last token of its last occurrence."""


def _as_list(key: str, value: str) -> BeforeValidator:
    """``{"IO": "Mary"}`` as ``[{"name": "IO", "value": "Mary"}]``."""

    def listed(data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return [{key: name, value: each} for name, each in data.items()]

    return BeforeValidator(listed)


class TaskPrompt(Part):
    """A prompt of one's own, with what is known of it."""

    text: Annotated[str, Plain()] = Field(min_length=1, max_length=_LONGEST)
    answer: Word
    """The single token that answers it, with its leading space."""
    wrong: Word
    """The single token to tell it from."""
    attributes: Annotated[
        list[AttributeValue], _as_list("name", "value"), Field(min_length=1, max_length=_NAMES)
    ]
    """What it is about, as `{"IO": "Mary", "S": "John"}` or as a list; all prompts have the same
    attributes."""
    positions: Annotated[list[TokenPosition], _as_list("name", "token")] = Field(
        default_factory=list, max_length=_NAMES
    )
    """Tokens that matter, as `{"S2": 10}` or as a list; `end`, the last one, is always there."""
    split: Literal["fit", "test"] | None = None
    """Which half it belongs to; None leaves that to the run."""
    id: Word | None = None
    """A name for `counterfactual_of`."""
    counterfactual_of: Word | None = None
    """The id of a prompt that this one differs from in exactly one attribute: it is what an edit
    should make of that one, and counts nowhere else."""

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        for what, names in (
            ("attribute", [each.name for each in self.attributes]),
            ("position", [each.name for each in self.positions]),
        ):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"the {what} '{twice}' is given twice")
        if self.answer == self.wrong:
            raise ValueError("answer and wrong are the same")
        return self


class IndirectObjectPrompts(Part):
    """ "When Mary and John went to the store, John gave a drink to" Mary, with the attributes `IO`,
    `S` and `Pos` (which of them comes first), made of single tokens of the model's tokenizer."""

    task: Literal["indirect-objects"] = "indirect-objects"
    count: int = Field(2000, ge=20, le=MOST_PROMPTS)
    """Prompts, counterfactuals aside."""
    templates: list[Word] | None = Field(None, min_length=1, max_length=16)
    """`went`, `long-day`, `arrived`, `working`; None takes the first two."""
    names: int | None = Field(None, ge=4, le=1000)
    """So many names alone, for more prompts of each; None takes all that are single tokens."""
    seed: Seed = 0
    """Of which words are drawn."""


class AttributedPrompts(Part):
    """Prompts of one's own."""

    task: Literal["given"] = "given"
    items: list[TaskPrompt] = Field(min_length=8, max_length=MOST_PROMPTS)


Edited = Annotated[int, Field(ge=1, le=1024)]
"""Features that an edit may change at a node."""

TaskSource = Annotated[IndirectObjectPrompts | AttributedPrompts, Field(discriminator="task")]
