"""Standard scores of attention heads, from their patterns on random tokens that repeat.

A head that attends to the token before, to an earlier one of the same kind, or to what came after
that one, does so on random tokens too, where no meaning helps it.  Source: C. Olsson et al., "In-
context Learning and Induction Heads" (2022); C. Kissane et al. (2024) for prefixes of several
tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.figures import plural

REPEATED = 40
"""Tokens of the text that is read twice."""
ROWS = 16
PREFIXES = (1, 3, 5, 7, 9)
"""Lengths of what comes again, in tokens."""
PREFIX_TEXT = 64
"""Tokens before it does."""

Patterns = Callable[[Tensor], Tensor]
"""Ids ``[B, S]`` to what each position attends to, ``[B, heads, S (to), S (from)]``."""


@dataclass(frozen=True)
class HeadScores:
    """Of the heads of one layer; all ``[heads]``, shares of attention between 0 and 1."""

    previous: Tensor
    """Attention to the token before."""
    duplicate: Tensor
    """Attention to the same token, where it came once before."""
    induction: Tensor
    """Attention to the token after that."""
    prefixes: dict[int, Tensor]
    """The last, where just so many tokens have come before."""
    rows: int
    """Random texts of each kind."""

    @property
    def long_prefix(self) -> Tensor:
        """How many times more a head attends after a long prefix (5 tokens, or the longest) than
        after one of a single token, ``[heads]``; NaN where it attends after neither."""
        lengths = sorted(self.prefixes)
        long = 5 if 5 in self.prefixes else lengths[-1]
        first, later = self.prefixes[lengths[0]], self.prefixes[long]
        return torch.where(later > 0.05, later / first.clamp_min(1e-6), torch.nan)


def score_heads(
    patterns: Patterns,
    vocabulary: Sequence[int],
    bos: int | None,
    seed: int = 0,
    rows: int = ROWS,
    prefixes: Sequence[int] = PREFIXES,
    longest: int | None = None,
) -> HeadScores:
    """Reads random rows of tokens of ``vocabulary`` (ids that may stand in a text), after ``bos``
    where there is one.

    ``longest`` is how many tokens a row may have.  ``DataError`` where the vocabulary is too small
    to draw rows without repeats, or the context too short.
    """
    start = 0 if bos is None else 1
    length = REPEATED if longest is None else min(REPEATED, (longest - start) // 2)
    text = PREFIX_TEXT if longest is None else min(PREFIX_TEXT, longest - start - max(prefixes))
    if length < 2 or text < 2 * max(prefixes) + 2:
        raise DataError(
            f"A context of {plural(longest or length, 'token')} is too short for the scores of"
            f" heads."
        )
    generator = torch.Generator().manual_seed(seed)
    draw = _Draw(torch.tensor(list(vocabulary)), bos, generator)
    once_BR = draw.rows(rows, length)
    pattern_BHSS = patterns(draw.with_bos(torch.cat([once_BR, once_BR], dim=1)))
    to = start + length + torch.arange(length)
    return HeadScores(
        previous=_attention(pattern_BHSS, to, to - 1),
        duplicate=_attention(pattern_BHSS, to, to - length),
        # The first of them has nothing that came after it but the repeat's own beginning.
        induction=_attention(pattern_BHSS, to[:-1], to[:-1] - length + 1),
        prefixes={n: _prefix(patterns, draw, rows, text, n) for n in prefixes},
        rows=rows,
    )


def _prefix(patterns: Patterns, draw: _Draw, rows: int, text: int, prefix: int) -> Tensor:
    """Attention of a row's last token to what came after it before, ``[heads]``: its last
    ``prefix`` tokens, and no more, stood somewhere in the ``text`` random tokens before them."""
    once_BT = draw.rows(rows, text)
    first = torch.randint(1, text - prefix, (rows,), generator=draw.generator)
    places_BP = first[:, None] + torch.arange(prefix)
    again_BP = once_BT.gather(1, places_BP)
    ids_BS = draw.with_bos(torch.cat([once_BT, again_BP], dim=1))
    pattern_BHSS = patterns(ids_BS)
    start = ids_BS.shape[1] - text - prefix
    row = torch.arange(rows)
    return pattern_BHSS[row, :, -1, start + first + prefix].mean(dim=0).float().cpu()


def _attention(pattern_BHSS: Tensor, to: Tensor, source: Tensor) -> Tensor:
    """Mean over rows and places, ``[heads]``."""
    return pattern_BHSS[:, :, to, source].mean(dim=(0, 2)).float().cpu()


class _Draw:
    """Random rows in which no token comes twice."""

    def __init__(self, vocabulary: Tensor, bos: int | None, generator: torch.Generator) -> None:
        self.vocabulary, self.bos, self.generator = vocabulary, bos, generator

    def rows(self, count: int, length: int) -> Tensor:
        """``[count, length]``"""
        size = len(self.vocabulary)
        if size < length:
            raise DataError(
                f"The vocabulary has {plural(size, 'token')} that may stand in a text; {length}"
                " different "
                "ones are needed."
            )
        drawn = [torch.randperm(size, generator=self.generator)[:length] for _ in range(count)]
        return self.vocabulary[torch.stack(drawn)]

    def with_bos(self, ids_BS: Tensor) -> Tensor:
        if self.bos is None:
            return ids_BS
        first_B1 = torch.full((len(ids_BS), 1), self.bos, dtype=ids_BS.dtype)
        return torch.cat([first_B1, ids_BS], dim=1)
