"""In which words a feature fires most strongly, forms of one word counted together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monosemy.index.token_evidence import TextContext

MOST_WORDS = 4
"""Words kept."""
LONGEST_WORD = 40
"""Characters kept of one."""
_REACH = 5
"""Tokens read on each side for the rest of a word."""
_STEM, _ENDING = 4, 3
"""Letters that forms share at least, and that each may have of its own at most."""
_UNSPACED = "\u2e80"
"""Scripts from here on write words without spaces: there a token is its own word."""


@dataclass(frozen=True)
class WordCount:
    """A word, its forms together, and in how many places it stands."""

    word: str
    """The commonest form."""
    count: int


def word_at(context: TextContext, position: int, row: int) -> str:
    """The word that the token at ``position`` is part of: the letters and digits around it.

    A token without any, such as punctuation, is its own word, white space as it stands.
    """
    start = max(int(context.row_start[row]), position - _REACH)
    end = min(int(context.row_start[row + 1]), position + _REACH + 1)
    ids = context.tokens[start:end].tolist()
    pieces = [context.texts[token] for token in ids]
    if any("\ufffd" in piece for piece in pieces):  # characters in several tokens
        pieces = context.token_bytes.pieces(ids)
    here = position - start
    while here > 0 and not pieces[here]:
        here -= 1
    text = pieces[here]
    if not any(map(_joins, text)):
        return (text.strip() or text)[:LONGEST_WORD]
    before, after = "".join(pieces[:here]), "".join(pieces[here + 1 :])
    if _joins(text[0]):
        text = before[len(before.rstrip(_letters(before))) :] + text
    if _joins(text[-1]):
        text += after[: len(after) - len(after.lstrip(_letters(after)))]
    words = "".join(c if _joins(c) else " " for c in text).split()
    return max(words, key=len)[:LONGEST_WORD]


def strongest_words(words: Sequence[str]) -> list[WordCount]:
    """``words`` counted, forms of one word together under the commonest one, most first."""
    spellings = Counter(words)
    groups: dict[str, list[str]] = {}
    for spelling in sorted(spellings, key=lambda word: (-spellings[word], word)):
        folded = spelling.casefold()
        head = next((known for known in groups if same_word(known, folded)), folded)
        groups.setdefault(head, []).append(spelling)
    counted = [
        WordCount(forms[0], sum(spellings[form] for form in forms)) for forms in groups.values()
    ]
    return sorted(counted, key=lambda each: -each.count)[:MOST_WORDS]


def same_word(a: str, b: str) -> bool:
    """Whether two words, case folded, are equal or differ in their endings alone: four letters or
    more in common at the beginning, and at most three letters after that in each."""
    if a == b:
        return True
    shared = next((i for i, pair in enumerate(zip(a, b, strict=False)) if len(set(pair)) > 1), None)
    shared = min(len(a), len(b)) if shared is None else shared
    rests = [rest for rest in (a[shared:], b[shared:]) if rest]
    return shared >= _STEM and all(len(rest) <= _ENDING and rest.isalpha() for rest in rests)


def _joins(character: str) -> bool:
    return character.isalnum() and character < _UNSPACED


def _letters(text: str) -> str:
    """Those characters of ``text`` that are part of words."""
    return "".join(set(filter(_joins, text)))
