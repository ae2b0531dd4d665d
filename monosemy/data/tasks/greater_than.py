"""Which years may follow: "The war lasted from the year 1732 to the year 17" 33 to 99.

Hanna et al., arXiv 2305.00586.  Where a tokenizer reads two digits as a token, the answers are all
later years of the century against the others; where it reads digits one by one, all higher digits
of the tens against all lower ones.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from monosemy.data.tasks.examples import Example, TaskPrompts, encode
from monosemy.data.tasks.words import EVENTS, enough, single_tokens
from monosemy.errors import DataError

CENTURIES = tuple(str(century) for century in range(11, 18))
_LEAST_EVENTS = 5
FIRST = "01"
"""The year of a prompt's negative: any year may follow it."""


@dataclass(frozen=True)
class _Century:
    """A century as a tokenizer reads it."""

    tokens: dict[str, tuple[int, ...]]
    """What its two last digits are, by themselves: ``{"32": (id,)}`` or ``{"32": (id, id)}``."""

    def answers(self, year: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(right, wrong) tokens that may follow the century after ``year``."""
        if len(self.tokens[year]) == 1:
            right = {ids[0] for other, ids in self.tokens.items() if other > year}
            wrong = {ids[0] for other, ids in self.tokens.items() if other <= year}
        else:
            right = {ids[0] for other, ids in self.tokens.items() if other[0] > year[0]}
            wrong = {ids[0] for other, ids in self.tokens.items() if other[0] < year[0]}
        return tuple(sorted(right)), tuple(sorted(wrong))


class GreaterThan:
    """Makes prompts for one tokenizer.

    ``left_out`` has the ``events`` that are not one token, and the ``centuries`` and ``years`` that
    are not read as century and year.  ``DataError`` where no century is left.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        events, no_events = single_tokens(tokenizer, EVENTS)
        enough(events, _LEAST_EVENTS, "events", tokenizer)
        self.events = list(events)
        self._centuries: dict[str, _Century] = {}
        no_centuries, no_years = [], []
        for century in CENTURIES:
            read, missing = self._read(century)
            if read is None:
                no_centuries.append(century)
                continue
            self._centuries[century] = read
            no_years += [f"{century}{year}" for year in missing]
        if not self._centuries:
            raise DataError(
                "The tokenizer reads no year as a century and its last two digits.",
                "Give prompts of your own instead.",
            )
        self.left_out = {
            "events": no_events,
            "centuries": tuple(no_centuries),
            "years": tuple(no_years),
        }
        self._years = [
            (century, year)
            for century, read in self._centuries.items()
            for year in read.tokens
            if year > FIRST and all(read.answers(year))
        ]
        if not self._years:
            raise DataError("The tokenizer leaves no year with an earlier and a later one.")

    def _read(self, century: str) -> tuple[_Century | None, list[str]]:
        before = encode(self.tokenizer, f"then the year {century}")
        found: dict[int, dict[str, tuple[int, ...]]] = {1: {}, 2: {}}
        years = [f"{year:02d}" for year in range(1, 100)]
        for year in years:
            ids = encode(self.tokenizer, f"then the year {century}{year}")
            digits = ids[len(before) :]
            if ids[: len(before)] == before and len(digits) in found:
                found[len(digits)][year] = digits
        tokens = max(found.values(), key=len)
        if FIRST not in tokens:
            return None, []
        return _Century(tokens), [year for year in years if year not in tokens]

    def examples(self, n: int, seed: int = 0) -> list[Example]:
        draw = random.Random(f"greater than {seed}")
        return [self._made(draw.choice(self.events), *draw.choice(self._years)) for _ in range(n)]

    def prompts(self, n: int, seed: int = 0) -> TaskPrompts:
        """``n`` prompts, and each once more with the first year of its century."""
        positive = self.examples(n, seed)
        negative = [
            self._made(each.attributes["event"], each.attributes["century"], FIRST)
            for each in positive
        ]
        return TaskPrompts(tuple(positive), tuple(negative), self.left_out)

    def _made(self, event: str, century: str, year: str) -> Example:
        begin = f"The {event} lasted from the year {century}"
        text = f"{begin}{year} to the year {century}"
        ids, at = encode(self.tokenizer, text), len(encode(self.tokenizer, begin))
        read = self._centuries[century]
        digits = read.tokens[year]
        if ids[at : at + len(digits)] != digits:
            raise DataError(f"The tokenizer reads the year otherwise than alone: {text!r}.")
        right, wrong = read.answers(year) if year > FIRST else ((), ())
        return Example(
            text=text,
            ids=ids,
            template=f"{len(ids)} tokens",
            places={"YY": at, "end": len(ids) - 1},
            attributes={"event": event, "century": century, "YY": year},
            right=right,
            wrong=wrong,
        )
