"""Texts with slots for single tokens: where each slot stands among the tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monosemy.data.tasks.examples import encode
from monosemy.errors import DataError

_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Template:
    """A text with slots, of which each stands after a space and takes one token."""

    name: str
    text: str

    def filled(self, words: Mapping[str, str]) -> str:
        return _SLOT.sub(lambda slot: words[slot[1]], self.text)

    def slots(self) -> list[str]:
        """Names of the slots in the order of the text; one may come twice."""
        return _SLOT.findall(self.text)


class Filler:
    """Fills templates for a tokenizer whose single tokens are known."""

    def __init__(self, tokenizer: Any, token: Mapping[str, int]) -> None:
        self.tokenizer, self.token = tokenizer, token
        self._read: dict[str, tuple[int, tuple[int, ...]]] = {}

    def fill(
        self, template: Template, words: Mapping[str, str]
    ) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
        """(text, ids, index of every slot in the order of the text); ``DataError`` where the
        tokenizer does not read the words as the single tokens that they are elsewhere."""
        text = template.filled(words)
        ids = encode(self.tokenizer, text)
        if template.name not in self._read:
            self._read[template.name] = (len(ids), self._places(template, words))
        length, places = self._read[template.name]
        wanted = tuple(self.token[words[slot]] for slot in template.slots())
        if len(ids) != length or tuple(ids[place] for place in places) != wanted:
            raise DataError(
                f"The tokenizer reads words of the template '{template.name}' otherwise than "
                f"alone: {text!r}.",
                "Leave the template out, or give prompts of your own.",
            )
        return text, ids, places

    def _places(self, template: Template, words: Mapping[str, str]) -> tuple[int, ...]:
        places = []
        for slot in _SLOT.finditer(template.text):
            before = Template("", template.text[: slot.start()].rstrip(" ")).filled(words)
            places.append(len(encode(self.tokenizer, before)))
        return tuple(places)
