"""The bytes behind each token id, and text out of ids that is right across token borders.

Byte-level BPE cuts characters in two, so text must be decoded from joined bytes, never token by
token.  Neither torch nor transformers is needed: a packed table travels with a token store.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from monosemy.data.vocabulary import token_table
from monosemy.errors import DataError

_MAGIC = b"MTB1"


class TokenBytes:
    """Bytes of every token id of one tokenizer.  Ids without a token hold ``b""``."""

    def __init__(self, table: Sequence[bytes]) -> None:
        self._table = list(table)
        self._texts: list[str | None] = [None] * len(self._table)  # of those asked for so far

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> TokenBytes:
        """Of a Hugging Face tokenizer (transformers or ``tokenizers``) of any family; added tokens
        stand for their literal text."""
        return cls(token_table(tokenizer))

    def pack(self) -> bytes:
        """All tokens in one buffer: magic, count, end offsets, bytes (little endian)."""
        ends, end = [], 0
        for item in self._table:
            end += len(item)
            ends.append(end)
        head = struct.pack(f"<4sI{len(ends)}I", _MAGIC, len(ends), *ends)
        return head + b"".join(self._table)

    @classmethod
    def unpack(cls, data: bytes) -> TokenBytes:
        """Undoes ``pack``; raises ``DataError`` for anything else."""
        if len(data) < 8 or data[:4] != _MAGIC:
            raise DataError("These bytes are not a packed token table.")
        (count,) = struct.unpack_from("<I", data, 4)
        start = 8 + 4 * count
        if len(data) < start:
            raise DataError("The packed token table is cut short.")
        ends = struct.unpack_from(f"<{count}I", data, 8)
        if len(data) != start + (ends[-1] if ends else 0):
            raise DataError("The packed token table is cut short.")
        begins = (0, *ends[:-1])
        spans = zip(begins, ends, strict=True) if ends else ()
        return cls([data[start + begin : start + end] for begin, end in spans])

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> bytes:
        """Bytes of one id; ``b""`` for ids beyond the vocabulary (padded embedding rows)."""
        return self._table[index] if 0 <= index < len(self._table) else b""

    def decode(self, ids: Iterable[int]) -> str:
        """The joined bytes as text; what is not UTF-8 becomes U+FFFD."""
        return b"".join(self[int(index)] for index in ids).decode("utf-8", errors="replace")

    def whole(self, ids: Sequence[int]) -> list[str] | None:
        """``pieces(ids)`` if none of the tokens holds only part of a character, as in most text.

        ``ids`` are in the vocabulary.
        """
        texts = self._texts
        try:
            while True:
                pieces = [texts[index] for index in ids]
                if None not in pieces:
                    return pieces  # type: ignore[return-value]
                unseen = ids[pieces.index(None)]
                texts[unseen] = self._table[unseen].decode("utf-8")
        except UnicodeDecodeError:
            return None

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """One string per id, such that ``"".join(pieces(ids)) == decode(ids)``.

        A character cut over several tokens stands whole at the token that holds its first byte.
        """
        ids = [int(index) for index in ids]
        if ids and min(ids) >= 0 and max(ids) < len(self._table):
            whole = self.whole(ids)
            if whole is not None:
                return whole
        parts = [self[index] for index in ids]
        data = b"".join(parts)
        text, starts = _characters(data)
        result: list[str] = []
        first, end = 0, 0
        for part in parts:
            end += len(part)
            last = first
            while last < len(starts) and starts[last] < end:
                last += 1
            result.append(text[first:last])
            first = last
        return result


def _characters(data: bytes) -> tuple[str, list[int]]:
    """``data`` decoded with ``errors="replace"``, and the byte at which each character starts."""
    faults: list[tuple[int, int]] = []
    at = 0
    while True:
        try:
            data[at:].decode("utf-8")
            break
        except UnicodeDecodeError as error:
            faults.append((at + error.start, at + error.end))
            at += error.end
    starts: list[int] = []
    begin = 0
    for start, end in [*faults, (len(data), len(data))]:
        # In valid UTF-8 every byte but a continuation byte starts a character.
        starts.extend(i for i in range(begin, start) if data[i] & 0xC0 != 0x80)
        if end > start:
            starts.append(start)
        begin = end
    return data.decode("utf-8", errors="replace"), starts
