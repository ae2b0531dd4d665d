"""From a feature's firings to its figures on tokens, classes, endings and places.  numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from monosemy.index.evidence import STRONGEST, ClassShare, TokenShare
from monosemy.index.evidence_label import LINE_START, ROW_START
from monosemy.index.examples import FeaturePostings, Ints, strongest_per_document
from monosemy.index.strongest_words import strongest_words, word_at
from monosemy.index.token_classes import CLASSES, ENDING_LENGTHS, TokenClasses

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore
    from monosemy.data.token_bytes import TokenBytes

TOP_TOKENS = 8
PREVIOUS_TOKENS = 4
LEAST_CLASS_SHARE = 0.1
LEAST_ENDING_SHARE = 0.3
_FRAGMENT = "�"
_AROUND = 4
"""Tokens on each side that surely hold the rest of a character (4 bytes at most)."""

_LOOKED_AT = 2048
"""Strongest firings among which those of different documents are looked for."""

_ROW_TABLE = 2**25
"""Texts below so many tokens get a table of each token's row (128 MiB at most)."""

Bools = npt.NDArray[np.bool_]


@dataclass
class TextCounts:
    """How often tokens and places occur among the tokens that evidence is taken from."""

    tokens: Ints
    """Occurrences of each token id, int64 [d_vocab]."""
    previous: Ints
    """Occurrences of each token id right before such a token, in the same row."""
    row_starts: int = 0
    line_starts: int = 0

    @classmethod
    def empty(cls, d_vocab: int) -> TextCounts:
        return cls(np.zeros(d_vocab, np.int64), np.zeros(d_vocab, np.int64))

    @property
    def total(self) -> int:
        return int(self.tokens.sum())

    def add(self, context: TextContext, positions: Ints, first_in_row: Bools) -> None:
        """Counts further tokens, given by flat position."""
        size = len(self.tokens)
        self.tokens += np.bincount(context.tokens[positions], minlength=size)
        before = context.tokens[positions[~first_in_row] - 1]
        self.previous += np.bincount(before, minlength=size)
        self.row_starts += int(first_in_row.sum())
        self.line_starts += int(context.classes.breaks_line[before].sum())


class TextContext:
    """The token store and vocabulary as evidence needs them.

    ``texts``: what each token id reads alone (fragments of characters as U+FFFD).
    """

    def __init__(self, store: TokenStore, token_bytes: TokenBytes, d_vocab: int) -> None:
        # A plain view: indexing a memmap object is several times slower.
        self.tokens: npt.NDArray[Any] = np.asarray(store.tokens)
        self.row_start: Ints = np.asarray(store.row_start, np.int64)
        self._row_table: npt.NDArray[np.int32] | None = None
        if store.n_tokens < _ROW_TABLE:
            numbers = np.arange(len(self.row_start) - 1, dtype=np.int32)
            self._row_table = np.repeat(numbers, np.diff(self.row_start))
        self.token_bytes = token_bytes
        known = min(d_vocab, len(token_bytes))
        self.texts = [token_bytes[i].decode("utf-8", "replace") for i in range(known)]
        # A model may have more output rows than its tokenizer has tokens.
        self.texts += ["<unused>"] * (d_vocab - known)
        self.classes = TokenClasses.of(self.texts)

    def rows_of(self, positions: Ints) -> Ints:
        """The row of each flat position."""
        if self._row_table is not None:
            return self._row_table[positions].astype(np.int64)
        return np.searchsorted(self.row_start, positions, side="right") - 1

    def text_at(self, position: int, row: int) -> str:
        """The text of the token at ``position``; for a part of a character, the whole of it.

        A character split over tokens is read from its row, so it is right across token borders.
        """
        text = self.texts[int(self.tokens[position])]
        if _FRAGMENT not in text:
            return text
        start = max(position - _AROUND, int(self.row_start[row]))
        end = min(position + _AROUND + 1, int(self.row_start[row + 1]))
        pieces = self.token_bytes.pieces(self.tokens[start:end].tolist())
        here = position - start
        while here > 0 and not pieces[here]:
            here -= 1
        return pieces[here] or text


class TokenEvidence:
    """Collects the token figures of one feature after the other."""

    def __init__(self, context: TextContext, counts: TextCounts) -> None:
        self.context = context
        self.counts = counts
        total = max(counts.total, 1)
        weights = counts.tokens.astype(np.float64)
        ids = np.arange(len(weights))
        self.class_base = context.classes.shares(ids, weights)
        self.place_base = {
            ROW_START: counts.row_starts / total,
            LINE_START: counts.line_starts / total,
        }
        self.ending_base = {
            length: np.bincount(
                numbers[numbers >= 0],
                weights[numbers >= 0],
                minlength=len(context.classes.ending_names[length]),
            )
            / total
            for length, numbers in context.classes.endings.items()
        }

    def of(self, postings: FeaturePostings) -> dict[str, Any]:
        """The token fields of ``FeatureEvidence``, as keyword arguments."""
        if len(postings) == 0:
            return {}
        context, positions = self.context, postings.positions
        tokens = context.tokens[positions].astype(np.int64)
        total = float(postings.values.sum(dtype=np.float64))
        grouped = _Grouped.by(tokens, postings.values)
        within = positions > context.row_start[postings.rows]
        before = postings.where(within)
        before_tokens = context.tokens[before.positions - 1].astype(np.int64)
        before_grouped = _Grouped.by(before_tokens, before.values)
        line_start = before.values[context.classes.breaks_line[before_tokens]].sum(dtype=np.float64)
        row_start = postings.values[~within].sum(dtype=np.float64)
        places = {ROW_START: float(row_start) / total, LINE_START: float(line_start) / total}
        return {
            "token_firings": len(postings),
            "distinct_tokens": len(grouped.tokens),
            "top_tokens": self._token_shares(
                grouped, TOP_TOKENS, total, postings, self.counts.tokens, 0
            ),
            "previous_tokens": self._token_shares(
                before_grouped, PREVIOUS_TOKENS, total, before, self.counts.previous, 1
            ),
            **self._strongest(postings),
            "classes": self._classes(grouped, places),
            "ending": self._ending(grouped, total),
        }

    def _strongest(self, postings: FeaturePostings) -> dict[str, Any]:
        places = strongest_per_document(postings, _strongest_last(postings), STRONGEST)
        positions, rows = postings.positions[places].tolist(), postings.rows[places].tolist()
        words = [word_at(self.context, *place) for place in zip(positions, rows, strict=True)]
        return {"strongest_firings": len(words), "strongest_words": strongest_words(words)}

    def _token_shares(
        self,
        grouped: _Grouped,
        limit: int,
        total: float,
        postings: FeaturePostings,
        occurrences: Ints,
        back: int,
    ) -> list[TokenShare]:
        shares = []
        for group in np.argsort(-grouped.sums, kind="stable")[:limit].tolist():
            token, count = int(grouped.tokens[group]), int(grouped.counts[group])
            text = self.context.texts[token]
            if _FRAGMENT in text:
                place = grouped.strongest(group)
                position, row = int(postings.positions[place]), int(postings.rows[place])
                text = self.context.text_at(position - back, row)
            # Never above 1: an evidence that had to take all documents counts more than these.
            fires = min(count / max(int(occurrences[token]), count), 1.0)
            shares.append(TokenShare(token, text, grouped.sums[group].item() / total, count, fires))
        return shares

    def _classes(self, grouped: _Grouped, places: dict[str, float]) -> list[ClassShare]:
        shares = self.context.classes.shares(grouped.tokens, grouped.sums)
        classes = [
            ClassShare(name, float(share), float(base))
            for name, share, base in zip(CLASSES, shares, self.class_base, strict=True)
        ]
        classes += [ClassShare(name, places[name], self.place_base[name]) for name in places]
        classes = [item for item in classes if item.share >= LEAST_CLASS_SHARE]
        return sorted(classes, key=lambda item: -item.share)

    def _ending(self, grouped: _Grouped, total: float) -> ClassShare | None:
        """The longest ending that has at least 0.9 of the share of the best one."""
        best: list[ClassShare] = []
        for length in ENDING_LENGTHS:
            numbers = self.context.classes.endings[length][grouped.tokens]
            has = numbers >= 0
            if not has.any():
                continue
            known, places = np.unique(numbers[has], return_inverse=True)
            sums = np.bincount(places, grouped.sums[has])
            first = int(np.argmax(sums))
            number = int(known[first])
            name = self.context.classes.ending_names[length][number]
            base = float(self.ending_base[length][number])
            best.append(ClassShare(name, float(sums[first]) / total, base))
        most = max((item.share for item in best), default=0.0)
        if most < LEAST_ENDING_SHARE:
            return None
        return next(item for item in best if item.share >= 0.9 * most)


def _strongest_last(postings: FeaturePostings) -> Ints:
    """Indices of the strongest ``_LOOKED_AT``, ascending; of equals the earlier is last."""
    values = postings.values
    if len(values) > _LOOKED_AT:
        some = np.argpartition(values, -_LOOKED_AT)[-_LOOKED_AT:]
    else:
        some = np.arange(len(values))
    return some[np.lexsort((-postings.positions[some], values[some]))]


@dataclass
class _Grouped:
    """Firings grouped by token: token ids ascending, firings and activation of each."""

    tokens: Ints
    counts: Ints
    sums: npt.NDArray[np.float64]
    order: Ints
    starts: Ints
    values: npt.NDArray[np.float32]

    @classmethod
    def by(cls, tokens: Ints, values: npt.NDArray[np.float32]) -> _Grouped:
        if len(tokens) == 0:
            none = np.zeros(0, np.int64)
            return cls(none, none, np.zeros(0), none, none, values)
        # numpy sorts 16-bit keys by radix, several times faster.
        keys = tokens.astype(np.uint16) if int(tokens.max()) < 2**16 else tokens
        order = np.argsort(keys, kind="stable")
        ordered = tokens[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        sums = np.add.reduceat(values[order].astype(np.float64), starts)
        return cls(
            ordered[starts], np.diff(np.r_[starts, len(tokens)]), sums, order, starts, values
        )

    def strongest(self, group: int) -> int:
        """Index of the strongest firing of a group."""
        begin = int(self.starts[group])
        members = self.order[begin : begin + int(self.counts[group])]
        return int(members[np.argmax(self.values[members])])
