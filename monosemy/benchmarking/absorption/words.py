"""Words of a host model's vocabulary, told apart by their first letter.

A word is read after some lines such as "apple has the first letter: A", as SAEBench 0.6.0 has it,
at its own token.  What follows a word changes nothing at it, so that one row of many lines serves
all words of its later lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.data.tasks.examples import encode
from monosemy.errors import DataError
from monosemy.models.host import HostModel

LINE = " has the first letter: {letter}\n"
"""What follows a word in a line."""
_WORD = re.compile(rb" ([A-Za-z])[A-Za-z]*")
_WORDS_OF_ROW = 16
"""That are read in one row, where the host model reads so much."""
_ROWS_AT_ONCE = 16
_TEST, _VALIDATION = 0.2, 0.2
"""Shares: of all words, and of those that are left."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Vocabulary:
    """Tokens that are a space and ASCII letters, by their first letter."""

    ids: Mapping[str, tuple[int, ...]]
    """Of the letters that have enough words, ``A`` to ``Z``, ascending."""
    tails: Mapping[str, tuple[int, ...]]
    """Tokens of the rest of a line, by letter."""

    @classmethod
    def of(cls, host: HostModel, least_words: int, least_letters: int) -> Vocabulary:
        """``DataError`` where fewer than ``least_letters`` have ``least_words``, and where the
        tokenizer does not read a word and what follows it apart."""
        table = host.token_bytes()
        found: dict[str, list[int]] = {}
        for token in range(min(len(table), host.d_vocab)):
            word = _WORD.fullmatch(table[token])
            if word is not None:
                found.setdefault(word[1].decode().upper(), []).append(token)
        ids = {
            letter: tuple(found[letter])
            for letter in sorted(found)
            if len(found[letter]) >= least_words
        }
        if len(ids) < least_letters:
            raise DataError(
                f"{len(ids)} letters begin {least_words} or more words of {host.name}'s vocabulary;"
                f" {least_letters} are needed.",
                "Take a host model with a larger vocabulary, or set least_words or least_letters "
                "lower.",
            )
        return cls(ids, {letter: _tail(host, letter) for letter in ids})

    @property
    def letters(self) -> tuple[str, ...]:
        return tuple(self.ids)


def _tail(host: HostModel, letter: str) -> tuple[int, ...]:
    before = encode(host.tokenizer, "then")
    text = "then" + LINE.format(letter=letter)
    whole = encode(host.tokenizer, text)
    if whole[: len(before)] != before or len(whole) == len(before):
        raise DataError(f"The tokenizer of {host.name} does not read the words of {text!r} apart.")
    return whole[len(before) :]


@dataclass(frozen=True)
class Drawn:
    """Words of one seed, in three parts that share none."""

    ids_N: Ints
    letter_N: Ints
    """Places in ``Vocabulary.letters``."""
    part_N: Ints
    """0: to fit to, 1: to choose by, 2: to test on."""


def draw(vocabulary: Vocabulary, most: int, seed: int) -> Drawn:
    """At most ``most`` words of each letter, split letter by letter."""
    rng = np.random.default_rng([abs(seed), int(seed < 0)])
    ids, letters, parts = [], [], []
    for place, letter in enumerate(vocabulary.letters):
        order = rng.permutation(np.array(vocabulary.ids[letter], np.int64))[:most]
        test = max(1, round(_TEST * len(order)))
        chosen = max(1, round(_VALIDATION * (len(order) - test)))
        ids.append(order)
        letters.append(np.full(len(order), place, np.int64))
        parts.append(np.repeat([2, 1, 0], [test, chosen, len(order) - test - chosen]))
    mixed = rng.permutation(sum(map(len, ids)))
    return Drawn(*(np.concatenate(each)[mixed] for each in (ids, letters, parts)))


@dataclass(frozen=True)
class Row:
    """Lines that the host model reads at once."""

    ids: tuple[int, ...]
    places: tuple[int, ...]
    """Of the tokens that are looked at."""
    words: tuple[int, ...]
    """Numbers of the words that stand there."""


def rows(host: HostModel, vocabulary: Vocabulary, drawn: Drawn, lines: int, seed: int) -> list[Row]:
    """Each drawn word once, after ``lines`` or more lines of words to fit to; with ``lines`` 0 by
    itself.  No part's words stand in the lines before another part's, but those to fit to.

    ``DataError`` where the host model does not read so many tokens at once.
    """
    rng = np.random.default_rng([abs(seed), int(seed < 0), 1])
    each = _words_of_row(host, vocabulary, lines)
    before = np.flatnonzero(drawn.part_N == 0)
    made = []
    for part in range(3):
        numbers = np.flatnonzero(drawn.part_N == part)
        for start in range(0, len(numbers), each):
            read = numbers[start : start + each]
            others = np.setdiff1d(before, read)
            first = rng.choice(others, lines, replace=len(others) < lines)
            made.append(_row(host, vocabulary, drawn, first, read))
    return made


def _words_of_row(host: HostModel, vocabulary: Vocabulary, lines: int) -> int:
    if lines == 0:
        return 1
    limit = host.abilities.positions
    line = 1 + max(map(len, vocabulary.tails.values()))
    needed = 2 + lines * line
    if limit is None:
        return _WORDS_OF_ROW
    if needed > limit:
        raise DataError(
            f"{lines} lines and a word are {needed} tokens; {host.name} reads {limit} at once.",
            "Set lines lower.",
        )
    return min(_WORDS_OF_ROW, 1 + (limit - needed) // line)


def _row(host: HostModel, vocabulary: Vocabulary, drawn: Drawn, first: Ints, read: Ints) -> Row:
    ids = [] if host.bos_id is None else [host.bos_id]
    places = []
    for number in (*first.tolist(), *read.tolist()):
        places.append(len(ids))
        letter = vocabulary.letters[drawn.letter_N[number]]
        ids += [int(drawn.ids_N[number]), *vocabulary.tails[letter]]
    at = places[len(first) :]
    return Row(tuple(ids[: at[-1] + 1]), tuple(at), tuple(read.tolist()))


@torch.no_grad()
def read(
    host: HostModel, site: str, made: Sequence[Row], count: int, advance: Callable[[int], None]
) -> Tensor:
    """Activations ``[count, d]`` of all words, float32 on the CPU."""
    x_ND = torch.empty(count, host.site_width(site))
    order = sorted(range(len(made)), key=lambda place: len(made[place].ids))
    for start in range(0, len(order), _ROWS_AT_ONCE):
        batch = [made[place] for place in order[start : start + _ROWS_AT_ONCE]]
        length = max(len(row.ids) for row in batch)
        ids_BS = torch.zeros(len(batch), length, dtype=torch.long)
        mask_BS = torch.zeros(len(batch), length, dtype=torch.long)
        for place, row in enumerate(batch):
            ids_BS[place, : len(row.ids)] = torch.tensor(row.ids)
            mask_BS[place, : len(row.ids)] = 1
        got_BSD = host.capture(ids_BS, mask_BS, [site])[site]
        for place, row in enumerate(batch):
            x_ND[list(row.words)] = got_BSD[place, list(row.places)].float().cpu()
        advance(sum(len(row.words) for row in batch))
    if not x_ND.isfinite().all():
        raise DataError(f"Activations at {site} are not all finite numbers.")
    return x_ND
