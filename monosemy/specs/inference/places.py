"""Which tokens of a text are changed while the host model writes on."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from monosemy.specs.part import Latent, Part, added_later

MOST_NAMED, LONGEST_NAMED, FURTHEST = 100, 200, 10**6

PlaceWord = Literal["all", "new", "prompt", "generated", "special", "range", "tokens"]
TokenKind = Literal["punctuation", "newline", "number", "blank"]
TokenTextPart = Annotated[str, Field(min_length=1, max_length=LONGEST_NAMED)]
Position = Annotated[int, Field(ge=-FURTHEST, le=FURTHEST)]


class PositionRange(Part):
    """Positions of the prompt as the host model reads it: 0 is its first token, BOS and a chat
    template's tokens included; -1 is its last."""

    first: Position = 0
    last: Position = -1
    """Itself included."""

    @field_validator("last")
    @classmethod
    def _not_before_the_first(cls, last: int, info: ValidationInfo) -> int:
        first = info.data.get("first")
        if first is not None and (first < 0) == (last < 0) and last < first:
            raise PydanticCustomError("empty_range", "it comes before first")
        return last


class TokenPredicate(Part):
    """Tokens for which one of these holds, of the prompt and of what is written."""

    texts: list[TokenTextPart] = Field([], max_length=MOST_NAMED)
    """The whole text of a token, a leading blank included: `" the"` is not `"the"`."""
    ids: list[Latent] = Field([], max_length=MOST_NAMED)
    """In the tokenizer's vocabulary."""
    contains: list[TokenTextPart] = Field([], max_length=MOST_NAMED)
    """In the text of a token that is not special, upper and lower case apart."""
    kinds: list[TokenKind] = Field([], max_length=MOST_NAMED)
    """Of tokens that are not special. `newline`: has a line break; `blank`: nothing but blanks and
    line breaks; `punctuation`, `number`: nothing but those (by Unicode, symbols being punctuation),
    and perhaps blanks around them."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.texts or self.ids or self.contains or self.kinds):
            raise ValueError("name a text, an id, what a text contains, or a kind")
        return self


class TokenPlaces(Part):
    """Which tokens are changed. BOS at the beginning never is."""

    where: PlaceWord = "all"
    """`all`: the prompt's tokens and the new ones; `new`: from the prompt's last one on, which
    predicts the first new one; `prompt`: the prompt's alone; `generated`: the new ones alone;
    `special`: special tokens alone, such as a chat template's; `range`: those of the prompt that
    `range` says; `tokens`: those that `tokens` names."""
    special_tokens: bool = False
    """With `all`, `new` and `prompt`: at special tokens of the prompt too. Its last token is
    changed whether it is special or not."""
    range: PositionRange | None = added_later(None, validate_default=True)
    """With `where` `range`; special tokens in it are changed too."""
    tokens: TokenPredicate | None = added_later(None, validate_default=True)
    """With `where` `tokens`."""

    @field_validator("range", "tokens")
    @classmethod
    def _goes_with_where(cls, value: Any, info: ValidationInfo) -> Any:
        name, where = info.field_name, info.data.get("where")
        if where == name and value is None:
            raise PydanticCustomError("needed", "where is '{name}': say which", {"name": name})
        if where is not None and where != name and value is not None:
            told = {"name": name, "where": where}
            raise PydanticCustomError(
                "without_effect", "it goes with where '{name}', not '{where}'", told
            )
        return value
