"""Planted concepts: what a text is about is known, since it was written to be about that.

Forty of four families: a language, a topic, one word, numbers of one kind.  A seed fixes every
text, so that all judges are asked the same, and ``material_digest`` names what they are asked.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

from monosemy.interp.judge_test import words
from monosemy.interp.prompts.quoting import CLOSE, OPEN
from monosemy.interp.shown import ShownExample
from monosemy.workspace import fingerprint

TEXTS = 8
"""Texts of each concept; the first ones are shown to an explainer, the last ones to a detector."""

_MARKED = re.compile(f"({re.escape(OPEN)}.+?{re.escape(CLOSE)})")


@dataclass(frozen=True)
class Concept:
    """One planted concept."""

    name: str
    family: str
    """``language``, ``topic``, ``word`` or ``number``."""
    description: str
    """A true explanation of it."""
    names: tuple[str, ...]
    """An explanation names it by holding one of these; a final ``*`` stands for any ending."""
    texts: tuple[str, ...]
    """``TEXTS`` distinct texts, what belongs to the concept between ``<<`` and ``>>``."""

    def is_named(self, explanation: str) -> bool:
        """Whether ``explanation`` holds one of ``names``, in any case, plural included."""
        return _pattern(self.names).search(explanation) is not None

    def marked(self) -> list[str]:
        """What is marked in its texts."""
        return [part.strip(OPEN + CLOSE) for text in self.texts for part in _MARKED.findall(text)]

    def shown(self, number: int, document: int) -> ShownExample:
        """Text ``number`` as explainers and scorers get it, of that document."""
        return shown_text(self.texts[number], document * TEXTS + number, document)


@lru_cache(maxsize=256)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    parts = [
        re.escape(name[:-1]) + r"\w*" if name.endswith("*") else re.escape(name) + "(?:s|es|'s)?"
        for name in names
    ]
    return re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)", re.IGNORECASE)


def shown_text(marked: str, row: int, document: int) -> ShownExample:
    """A text with ``<<`` and ``>>`` around what activates, as ``ShownExample``; words are tokens,
    the strongest level is 10."""
    pieces: list[str] = []
    levels: list[float] = []
    for part in _MARKED.split(marked):
        inside = part.startswith(OPEN)
        text = part[len(OPEN) : -len(CLOSE)] if inside else part
        for piece in re.findall(r"\s*\S+|\s+", text):
            pieces.append(piece)
            levels.append(10.0 if inside else 0.0)
    centre = levels.index(max(levels))
    return ShownExample(
        tuple(pieces), tuple(levels), row, row * 1000 + centre, document, "top", centre
    )


@lru_cache(maxsize=1)
def concepts() -> tuple[Concept, ...]:
    """All forty, of each family spread evenly: any stretch of them holds several families."""
    families = [_languages(), _topics(), _words(), _numbers()]
    places = [
        ((i + 0.5) / len(family), concept)
        for family in families
        for i, concept in enumerate(family)
    ]
    return tuple(concept for _, concept in sorted(places, key=lambda item: item[0]))


@lru_cache(maxsize=1)
def material_digest() -> str:
    """Names the questions: another digest where a text, a description or a rule's word changed."""
    return fingerprint([[c.name, c.description, c.names, c.texts] for c in concepts()])


_Write = Callable[[int, random.Random], str]
"""Writes a text: which of the concept it is to be, and a source of chance."""


def _concept(name: str, family: str, description: str, names: str, write: _Write) -> Concept:
    rng = random.Random(f"{family}/{name}")  # a text as seed gives the same numbers everywhere
    texts: dict[str, None] = {}
    while len(texts) < TEXTS:
        texts.setdefault(write(len(texts), rng))
    listed = tuple(each.strip() for each in names.split(","))
    return Concept(name, family, description, listed, tuple(texts))


def _languages() -> list[Concept]:
    def sentence(parts: tuple[tuple[str, ...], ...], _: int, rng: random.Random) -> str:
        return f"{OPEN}{' '.join(rng.choice(part) for part in parts)}{CLOSE}."

    return [
        _concept(
            name,
            "language",
            f"Text written in {name.capitalize()}.",
            names,
            partial(sentence, (subjects, doings, places)),
        )
        for name, (names, subjects, doings, places) in words.LANGUAGES.items()
    ]


def _topics() -> list[Concept]:
    def sentence(listed: tuple[str, ...], number: int, rng: random.Random) -> str:
        # Each text has a word of its own: of one word alone an explanation would rightly say so.
        return rng.choice(words.FRAMES).format(f"{OPEN}{listed[number]}{CLOSE}")

    return [
        _concept(name, "topic", f"Words about {what}.", names, partial(sentence, listed))
        for name, (what, names, listed) in words.TOPICS.items()
    ]


def _words() -> list[Concept]:
    def sentence(word: str, _: int, rng: random.Random) -> str:
        return rng.choice(words.FRAMES).format(f"{OPEN}{word}{CLOSE}")

    return [
        _concept(word, "word", f'The word "{word}".', word, partial(sentence, word))
        for word in words.QUOTED
    ]


def _numbers() -> list[Concept]:
    def sentence(
        make: Callable[[random.Random], str],
        frames: tuple[str, ...],
        _: int,
        rng: random.Random,
    ) -> str:
        return rng.choice(frames).format(f"{OPEN}{make(rng)}{CLOSE}")

    return [
        _concept(
            name,
            "number",
            f"{what[0].upper()}{what[1:]}.",
            names,
            partial(sentence, _NUMBER[name], frames),
        )
        for name, (what, names, frames) in words.NUMBERS.items()
    ]


def _telephone(rng: random.Random) -> str:
    return f"{rng.randint(200, 999)}-{rng.randint(200, 999)}-{rng.randint(1000, 9999)}"


_NUMBER: dict[str, Callable[[random.Random], str]] = {
    "years": lambda rng: str(rng.randint(1650, 1995)),
    "prices": lambda rng: f"${rng.randint(3, 980)}.{rng.randint(10, 99)}",
    "times": lambda rng: (
        f"{rng.randint(1, 12)}:{rng.choice(['05', '15', '30', '40', '55'])} "
        + rng.choice(["am", "pm"])
    ),
    "percentages": lambda rng: f"{rng.randint(2, 96)}%",
    "telephone numbers": _telephone,
    "lengths": lambda rng: f"{rng.randint(3, 90)} {rng.choice(['cm', 'feet', 'miles'])}",
}
