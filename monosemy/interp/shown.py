"""An example as people and judges see it: text, with the activating tokens marked."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from monosemy.errors import DataError
from monosemy.interp.prompts.quoting import CLOSE, OPEN, quote, quote_marked

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore
    from monosemy.data.token_bytes import TokenBytes
    from monosemy.index.examples import Example

MARK_THRESHOLD = 0.3
"""Tokens above this share of their example's strongest activation are marked, as delphi does."""
_MARGIN = 8
_BROKEN = "\ufffd"


@dataclass(frozen=True)
class ShownExample:
    """A window of text around one token.

    ``pieces`` joined are the text; ``levels`` (one per piece) are activations on a scale of 0 to 10
    where 10 is the feature's maximum.  A character spread over several tokens stands whole in the
    first one's piece, with the largest of their levels; the other pieces are empty.
    """

    pieces: tuple[str, ...]
    levels: tuple[float, ...]
    row: int
    position: int
    """Flat position in the token store; ``row`` and ``position`` together name the example."""
    document: int
    group: str | int
    """``"top"``, the quantile, ``"negative"``, or where a hard negative is from."""
    centre: int = 0
    """Which piece stands at ``position``."""
    marks: tuple[bool, ...] | None = None
    """Which pieces are marked, where that is not left to the levels."""

    @property
    def id(self) -> tuple[int, int]:
        return self.row, self.position

    @property
    def text(self) -> str:
        return "".join(self.pieces).strip(_BROKEN)

    @property
    def peak(self) -> float:
        """The strongest level, 0 to 10."""
        return max(self.levels, default=0.0)

    def cropped(self, radius: int) -> ShownExample:
        """At most ``radius`` tokens on each side of the centre; ids stay the same."""
        first = max(0, self.centre - radius)
        kept = slice(first, self.centre + radius + 1)
        return ShownExample(
            self.pieces[kept],
            self.levels[kept],
            self.row,
            self.position,
            self.document,
            self.group,
            self.centre - first,
            self.marks[kept] if self.marks is not None else None,
        )

    def marked_pieces(self) -> tuple[bool, ...]:
        """Which pieces are marked: ``marks``, or those near the strongest in level."""
        if self.marks is not None:
            return self.marks
        limit = MARK_THRESHOLD * self.peak
        return tuple(level > 0 and level >= limit for level in self.levels)

    def runs(self) -> list[tuple[str, bool]]:
        """(text, marked) pieces of the text; neighbouring marked tokens are one run."""
        marked = list(self.marked_pieces())
        # An empty piece belongs to the character before it: it must not split a run.
        for i, piece in enumerate(self.pieces):
            if not piece and i:
                marked[i] = marked[i - 1]
        joined = [
            ("".join(piece for piece, _ in group), is_marked)
            for is_marked, group in groupby(
                zip(self.pieces, marked, strict=True), key=lambda item: item[1]
            )
        ]
        if joined:  # a window can begin or end inside a character
            joined[0] = (joined[0][0].lstrip(_BROKEN), joined[0][1])
            joined[-1] = (joined[-1][0].rstrip(_BROKEN), joined[-1][1])
        return [run for text, is_marked in joined for run in _bare_marks(text, is_marked) if run[0]]

    def marked(self) -> str:
        """For people: the text with ``<<`` and ``>>`` around activating tokens, nothing escaped."""
        return "".join(f"{OPEN}{text}{CLOSE}" if on else text for text, on in self.runs())

    def quoted(self) -> str:
        """For a prompt: the plain text as a JSON string."""
        return quote(self.text)

    def quoted_marked(self) -> str:
        """For a prompt: the marked text as a JSON string."""
        return quote_marked(self.runs())

    def reference(self) -> dict[str, Any]:
        """What provenance keeps of it."""
        return {"row": self.row, "position": self.position, "group": self.group}


def _bare_marks(text: str, marked: bool) -> list[tuple[str, bool]]:
    """Takes the space before a marked word out of the mark; marked white space stays marked."""
    word = text.lstrip(" ")
    if not marked or not word:
        return [(text, marked)]
    return [(text[: len(text) - len(word)], False), (word, True)]


def show_example(
    example: Example, store: TokenStore, token_bytes: TokenBytes, max_activation: float
) -> ShownExample:
    """Text and levels of ``example``; ``max_activation`` is the feature's maximum.

    Some tokens more are decoded and then cut off, so a character that straddles the window's border
    is either whole or absent.  Raises ``DataError`` for an example of another token store.
    """
    if not 0 <= example.row < len(store.row_start) - 1:
        raise DataError(f"Row {example.row} is not in this token store.", "Index the text again.")
    first, last = store.row_start[example.row : example.row + 2].tolist()
    start, end = example.start, example.end
    if not first <= start <= example.position < end <= last:
        raise DataError(
            f"The example at position {example.position} does not lie in row {example.row}.",
            "The index belongs to another token store; index the text again.",
        )
    levels = [0.0] * (end - start)
    scale = 10.0 / max_activation if max_activation > 0 else 0.0
    for offset, value in zip(example.offsets, example.values, strict=True):
        levels[offset] = min(10.0, max(0.0, value * scale))
    ids = store.tokens[start:end].tolist()
    pieces = token_bytes.whole(ids) if max(ids) < len(token_bytes) else None
    if pieces is None:
        # A character has four bytes at most: no farther token of the row has a part in the
        # window's.
        first, last = max(first, start - _MARGIN), min(last, end + _MARGIN)
        pieces = token_bytes.pieces(store.tokens[first:last].tolist())[start - first : end - first]
        for i in range(len(pieces) - 1, 0, -1):
            if not pieces[i]:
                levels[i - 1] = max(levels[i - 1], levels[i])
    return ShownExample(
        tuple(pieces),
        tuple(levels),
        example.row,
        example.position,
        example.document,
        example.group,
        example.position - example.start,
    )
