"""Where features are pushed, as the address of a page says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Query

from monosemy.specs.inference.places import (
    MOST_NAMED,
    PlaceWord,
    Position,
    TokenKind,
    TokenTextPart,
)

WHERE: dict[PlaceWord, str] = {
    "all": "every token",
    "prompt": "the prompt alone",
    "new": "the prompt's last token and new ones",
    "generated": "new tokens alone",
    "special": "special tokens alone",
    "range": "positions of the prompt",
    "tokens": "chosen tokens",
}
KINDS: dict[TokenKind, str] = {
    "punctuation": "punctuation",
    "newline": "line breaks",
    "number": "numbers",
    "blank": "blanks",
}
_WORDS: tuple[PlaceWord, ...] = ("all", "new", "prompt")
Named = Annotated[list[TokenTextPart], Query(max_length=MOST_NAMED)]


@dataclass(frozen=True)
class Places:
    """The fields of ``TokenPlaces`` that the page can say."""

    where: PlaceWord
    special: bool
    first: int
    last: int
    text: list[str]
    """The whole text of a token."""
    part: list[str]
    """What a token contains."""
    kind: list[TokenKind]

    def body(self) -> dict[str, Any]:
        """For REST, what is as it would be anyway left out."""
        if self.where == "range":
            return {"where": "range", "range": {"first": self.first, "last": self.last}}
        if self.where == "tokens":
            named = {"texts": self.text, "contains": self.part, "kinds": self.kind}
            said = {name: values for name, values in named.items() if values}
            return {"where": "tokens", "tokens": said or {"kinds": ["newline"]}}
        body: dict[str, Any] = {} if self.where == "all" else {"where": self.where}
        return {**body, **({"special_tokens": True} if self._takes_special else {})}

    def words(self) -> list[str]:
        """For the command line, as ``body``."""
        if self.where == "range":
            return [f"--range={self.first}:{self.last}"]
        if self.where == "tokens":
            named: dict[str, list[str]] = {
                "text": self.text,
                "part": self.part,
                "kind": [str(each) for each in self.kind],
            }
            said = [f"--at-{name}={each}" for name, values in named.items() for each in values]
            return said or ["--at-kind=newline"]
        words = [] if self.where == "all" else ["--where", self.where]
        return [*words, "--special-tokens"] if self._takes_special else words

    @property
    def _takes_special(self) -> bool:
        return self.special and self.where in _WORDS


def _places(
    where: PlaceWord = "all",
    special: bool = False,
    first: Position = 0,
    last: Position = -1,
    text: Named = [],  # noqa: B006
    part: Named = [],  # noqa: B006
    kind: Annotated[list[TokenKind], Query(max_length=MOST_NAMED)] = [],  # noqa: B006
) -> Places:
    return Places(where, special, first, last, text, part, kind)


PlacesDep = Annotated[Places, Depends(_places)]
