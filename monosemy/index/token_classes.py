"""Classes and word endings of every token of a vocabulary, once per index.  numpy only."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ENDING_LENGTHS = (4, 3, 2)


def _stripped(test: Callable[[str], bool]) -> Callable[[str], bool]:
    """``test`` on the text without its surrounding white space, false where none is left."""
    return lambda text: bool(text.strip()) and test(text.strip())


def _is_mark(text: str) -> bool:
    return all(unicodedata.category(c)[0] in "PS" for c in text)


def _is_capitalised(text: str) -> bool:
    return text.isalpha() and text[0].isupper() and not (len(text) > 1 and text.isupper())


def _is_foreign(text: str) -> bool:
    """Letters beyond the Latin blocks (which end at U+024F, and begin again at U+1E00)."""
    letters = [c for c in text if c.isalpha()]
    latin = [c for c in letters if ord(c) < 0x250 or 0x1E00 <= ord(c) < 0x1F00]
    return bool(letters) and not latin


CLASSES: dict[str, Callable[[str], bool]] = {
    "numbers": _stripped(lambda text: all(unicodedata.category(c)[0] == "N" for c in text)),
    "line breaks": lambda text: "\n" in text and not text.strip(),
    "white space": lambda text: bool(text) and not text.strip() and "\n" not in text,
    "punctuation": _stripped(_is_mark),
    "words in capitals": _stripped(
        lambda text: text.isalpha() and len(text) > 1 and text.isupper()
    ),
    "capitalised words": _stripped(_is_capitalised),
    "non-Latin letters": _stripped(_is_foreign),
}
"""Name and test (on the token's text) of each class; a token may be in several or in none."""


@dataclass(frozen=True)
class TokenClasses:
    """Per token id: bit i of ``bits`` = in class i; ``endings[n]`` = id of its n last letters."""

    bits: npt.NDArray[np.uint16]
    breaks_line: npt.NDArray[np.bool_]
    """The token's text holds a line break, so the next token starts a line."""
    endings: dict[int, npt.NDArray[np.int32]]
    """By length: index into ``ending_names[length]``, -1 where the token has none."""
    ending_names: dict[int, list[str]]

    @classmethod
    def of(cls, texts: Sequence[str]) -> TokenClasses:
        """Classifies the vocabulary; ``texts[i]`` is the text of token id i.

        A fragment of a character (its text holds U+FFFD) is in no class.
        """
        whole = [text if "�" not in text else "" for text in texts]
        bits = np.zeros(len(whole), np.uint16)
        for number, test in enumerate(CLASSES.values()):
            flags = np.fromiter((test(text) for text in whole), np.bool_, len(whole))
            bits |= flags.astype(np.uint16) << number
        breaks = np.fromiter(("\n" in text for text in whole), np.bool_, len(whole))
        words = [_ending_of(text) for text in whole]
        endings, names = {}, {}
        for length in ENDING_LENGTHS:
            endings[length], names[length] = _number_endings(words, length)
        return cls(bits, breaks, endings, names)

    def shares(self, tokens: npt.NDArray[np.integer], weights: npt.NDArray[np.floating]) -> Floats:
        """Share of ``weights`` (one per entry of ``tokens``) in each class, float64 [classes]."""
        total = max(float(weights.sum()), 1e-30)
        bits = self.bits[tokens]
        return np.array([weights[bits >> i & 1 == 1].sum() for i in range(len(CLASSES))]) / total


Floats = npt.NDArray[np.float64]


def _ending_of(text: str) -> str:
    """The letters that endings are taken from: a word, or the rest of one; else nothing."""
    word = text.strip().lower()
    return word if word.isalpha() else ""


def _number_endings(words: Sequence[str], length: int) -> tuple[npt.NDArray[np.int32], list[str]]:
    """A whole word must be longer than its ending; ``ing`` alone counts as an ending too."""
    known: dict[str, int] = {}
    numbers = np.full(len(words), -1, np.int32)
    for i, word in enumerate(words):
        if len(word) >= length:
            numbers[i] = known.setdefault(word[-length:], len(known))
    return numbers, list(known)
