"""What the tokens of a vocabulary stand for, as bytes, for every family of tokenizers.

A vocabulary writes its tokens in an alphabet of its own; how it is read is what the tokenizer's
decoder does.  Known are

* byte-level BPE (GPT-2, Llama 3, Qwen), where each byte has a printable character,
* the same with an end-of-word suffix (CLIP: ``cat</w>``), and plain BPE with one (GPT-1),
* SentencePiece and Metaspace, where a character stands for the blank (``▁``, or another), with or
  without byte fallback (``<0xE2>``),
* WordPiece, where a prefix (``##``) continues a word, and ``@@``, which says that it goes on,
* whole words, single characters, single bytes (ByT5, Perceiver), and vocabularies of bytes proper.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"
_WORDS = {"Whitespace", "WhitespaceSplit", "BertPreTokenizer"}
"""Pre-tokenizers that split at blanks and drop them."""
_MANY = 0.1
"""Share of a vocabulary that has a mark, where only the vocabulary shows its family."""


def token_table(tokenizer: Any) -> list[bytes]:
    """Bytes of every token id of a Hugging Face tokenizer (transformers or ``tokenizers``).

    Added tokens stand for their literal text.  Ids without a token have ``b""``.
    """
    vocabulary: dict[Any, int] = dict(tokenizer.get_vocab())
    added = _added_tokens(tokenizer)
    rules = _rules(tokenizer, [text for text, i in vocabulary.items() if i not in added])
    table = [b""] * (max([*vocabulary.values(), *added], default=-1) + 1)
    for text, index in vocabulary.items():
        table[index] = text if isinstance(text, bytes) else rules.bytes_of(text)
    for index, (text, special) in added.items():
        # The blanks of a SentencePiece vocabulary may be among those that were added (Gemma).
        plain = special or rules.space is None
        table[index] = _encoded(text) if plain else rules.bytes_of(text)
    return table


@dataclass(frozen=True)
class _Rules:
    """How a token is read."""

    byte_level: bool = False
    """In GPT-2's alphabet."""
    single_bytes: bool = False
    """Each token is the character of a byte's number."""
    byte_tokens: bool = False
    """``<0xE2>`` is a byte."""
    space: str | None = None
    """Stands for the blank."""
    prefix: str | None = None
    """Continues a word; a token without it begins one."""
    suffix: str | None = None
    """Ends a word."""
    goes_on: str | None = None
    """Suffix of a token whose word goes on; one without it ends its word."""
    whole_words: bool = False
    """Each token is a word."""

    def bytes_of(self, text: str) -> bytes:
        if self.single_bytes and len(text) == 1:
            return bytes([ord(text)])
        match = _BYTE_TOKEN.fullmatch(text) if self.byte_tokens else None
        if match:
            return bytes([int(match.group(1), 16)])
        before, after = self.whole_words, False
        if self.suffix and text.endswith(self.suffix):
            text, after = text.removesuffix(self.suffix), True
        if self.goes_on:
            goes_on = text.endswith(self.goes_on) and text != self.goes_on
            text, after = (text.removesuffix(self.goes_on), False) if goes_on else (text, True)
        if self.prefix:
            continues = text.startswith(self.prefix) and text != self.prefix
            text, before = (text.removeprefix(self.prefix), False) if continues else (text, True)
        if self.space:
            text = text.replace(self.space, " ")
        data = _from_byte_level(text) if self.byte_level else _encoded(text)
        return b" " * before + data + b" " * after


def _rules(tokenizer: Any, tokens: Collection[Any]) -> _Rules:
    """By the tokenizer's own decoder, or by its vocabulary where it has none."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "to_str"):
        return _rules_of_vocabulary(tokens)
    # The vocabulary makes up nearly all of the file, so only its small parts are walked.
    saved = json.loads(backend.to_str())
    model = saved.get("model") or {}
    parts = [
        part
        for name in ("decoder", "pre_tokenizer", "normalizer")
        for part in _typed(saved.get(name))
    ]
    kinds = {part["type"] for part in parts}
    suffix = model.get("end_of_word_suffix") or _first(parts, "BPEDecoder", "suffix")
    if "ByteLevel" in kinds:
        return _Rules(byte_level=True, suffix=suffix)
    if "WordPiece" in kinds or model.get("type") == "WordPiece":
        prefix = _first(parts, "WordPiece", "prefix") or model.get("continuing_subword_prefix")
        return _Rules(prefix=prefix or "##")
    space = _first(parts, "Metaspace", "replacement") or _blank_of(saved)
    if space is None and any(_SPACE in text for text in tokens):
        space = _SPACE
    if space is not None or "ByteFallback" in kinds or model.get("byte_fallback"):
        return _Rules(space=space or _SPACE, byte_tokens=True, suffix=suffix)
    if suffix or model.get("continuing_subword_prefix"):
        return _Rules(suffix=suffix, prefix=model.get("continuing_subword_prefix") or None)
    if saved.get("decoder") is None and model.get("type") == "WordLevel" and kinds & _WORDS:
        return _Rules(whole_words=True)
    return _rules_of_vocabulary(tokens)


def _rules_of_vocabulary(tokens: Collection[Any]) -> _Rules:
    texts = [text for text in tokens if isinstance(text, str)]
    if len(texts) == 256 and set(texts) == set(map(chr, range(256))):
        return _Rules(single_bytes=True)
    if any(_SPACE in text for text in texts):
        return _Rules(space=_SPACE, byte_tokens=True)
    if any("Ġ" in text for text in texts):
        return _Rules(byte_level=True)
    if _share(texts, "</w>") > _MANY:
        return _Rules(suffix="</w>")
    if _share(texts, "@@") > _MANY:
        return _Rules(goes_on="@@")
    return _Rules()


def _share(texts: list[str], ending: str) -> float:
    return sum(text.endswith(ending) for text in texts) / max(len(texts), 1)


def _typed(value: Any) -> list[Mapping[str, Any]]:
    """Every part that names its type, sequences taken apart."""
    if isinstance(value, list):
        return [part for item in value for part in _typed(item)]
    if not isinstance(value, dict):
        return []
    own = [value] if isinstance(value.get("type"), str) else []
    return own + [part for item in value.values() for part in _typed(item)]


def _first(parts: list[Mapping[str, Any]], kind: str, name: str) -> str | None:
    """The option ``name`` of the first part of this kind that has it."""
    values = (part.get(name) for part in parts if part["type"] == kind)
    return next((value for value in values if isinstance(value, str) and value), None)


def _blank_of(saved: Mapping[str, Any]) -> str | None:
    """What a decoder replaces by a blank, or a normalizer a blank by."""
    for name in ("decoder", "normalizer"):
        for part in _typed(saved.get(name)):
            if part["type"] != "Replace":
                continue
            pattern = (part.get("pattern") or {}).get("String")
            content = part.get("content")
            written, blank = (pattern, content) if name == "decoder" else (content, pattern)
            if blank == " " and isinstance(written, str) and len(written) == 1:
                return written
    return None


def _added_tokens(tokenizer: Any) -> dict[int, tuple[str, bool]]:
    """Id -> (literal text, whether it is special) of what was added to the vocabulary."""
    for name in ("added_tokens_decoder", "get_added_tokens_decoder"):
        attribute = getattr(tokenizer, name, None)
        if attribute is not None:
            entries = attribute() if callable(attribute) else attribute
            return {int(i): (str(each.content), bool(each.special)) for i, each in entries.items()}
    return {}


def _encoded(text: str) -> bytes:
    """UTF-8; half a surrogate pair, which has no bytes, becomes U+FFFD."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", "\ufffd", text).encode("utf-8")


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
        return _encoded(text)
