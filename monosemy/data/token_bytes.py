"""The bytes behind each token id, and text out of ids that is right across token borders.

Byte-level BPE cuts characters in two, so text must be decoded from joined bytes, never token by
token.  Neither torch nor transformers is needed: a packed table travels with a token store.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from monosemy.errors import DataError

_MAGIC = b"MTB1"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"


class TokenBytes:
    """Bytes of every token id of one tokenizer.  Ids without a token hold ``b""``."""

    def __init__(self, table: Sequence[bytes]) -> None:
        self._table = list(table)
        self._texts: list[str | None] = [None] * len(self._table)  # of those asked for so far

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> TokenBytes:
        """Reads the vocabulary of a Hugging Face tokenizer (transformers or ``tokenizers``).

        Byte-level BPE (GPT-2, Llama 3, Qwen) and SentencePiece with byte fallback (Llama 2,
        Gemma) are told apart by the tokenizer's own decoder, or by its vocabulary where it has
        none.  Added tokens stand for their literal text.
        """
        vocabulary: dict[str, int] = dict(tokenizer.get_vocab())
        literal = _added_tokens(tokenizer)
        to_bytes = _converter(_style(tokenizer, vocabulary))
        table = [b""] * (max([*vocabulary.values(), *literal], default=-1) + 1)
        for text, index in vocabulary.items():
            table[index] = to_bytes(text)
        for index, text in literal.items():
            table[index] = text.encode("utf-8")
        return cls(table)

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
                found = [texts[index] for index in ids]
                if None not in found:
                    return found  # type: ignore[return-value]
                unseen = ids[found.index(None)]
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


def _added_tokens(tokenizer: Any) -> dict[int, str]:
    """Id -> literal text of the tokens that were added to the vocabulary."""
    for name in ("added_tokens_decoder", "get_added_tokens_decoder"):
        found = getattr(tokenizer, name, None)
        if found is not None:
            entries = found() if callable(found) else found
            return {int(index): str(token.content) for index, token in entries.items()}
    return {}


def _style(tokenizer: Any, vocabulary: dict[str, int]) -> str:
    """``byte-level``, ``sentencepiece``, ``wordpiece`` or ``plain``."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    kinds: set[str] = set()
    if hasattr(backend, "to_str"):
        # The vocabulary makes up nearly all of the file, so only its small parts are walked.
        saved = json.loads(backend.to_str())
        _collect_types(saved.get("decoder"), kinds)
        _collect_types(saved.get("pre_tokenizer"), kinds)
        _collect_types(saved.get("normalizer"), kinds)
    if "ByteLevel" in kinds:
        return "byte-level"
    if "WordPiece" in kinds:
        return "wordpiece"
    if kinds & {"ByteFallback", "Metaspace"} or any(_SPACE in text for text in vocabulary):
        return "sentencepiece"
    if any("Ġ" in text for text in vocabulary):
        return "byte-level"
    return "plain"


def _collect_types(value: Any, into: set[str]) -> None:
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            into.add(value["type"])
        for item in value.values():
            _collect_types(item, into)
    elif isinstance(value, list):
        for item in value:
            _collect_types(item, into)


def _converter(style: str) -> Any:
    return {
        "byte-level": _from_byte_level,
        "sentencepiece": _from_sentencepiece,
        "wordpiece": _from_wordpiece,
        "plain": str.encode,
    }[style]


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the rest from U+0100 upwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    hidden = (byte for byte in range(256) if byte not in set(printable))
    table.update({chr(0x100 + n): byte for n, byte in enumerate(hidden)})
    return table


def _from_byte_level(text: str) -> bytes:
    alphabet = _byte_of_character()
    try:
        return bytes(alphabet[character] for character in text)
    except KeyError:
        return text.encode("utf-8")


def _from_sentencepiece(text: str) -> bytes:
    match = _BYTE_TOKEN.fullmatch(text)
    if match:
        return bytes([int(match.group(1), 16)])
    return text.replace(_SPACE, " ").encode("utf-8")


def _from_wordpiece(text: str) -> bytes:
    return (text[2:] if text.startswith("##") else " " + text).encode("utf-8")
