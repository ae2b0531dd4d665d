"""Everything in a tokenizer that changes tokens, or the text made of them."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from monosemy.workspace import fingerprint

_SETTINGS = (
    "clean_up_tokenization_spaces",
    "split_special_tokens",
    "add_prefix_space",
    "do_lower_case",
)
_STATE_OF_CALLS = ("truncation", "padding")
"""Entries of a serialised tokenizer that the last call has left there."""


def tokenizer_parts(tokenizer: Any) -> dict[str, str]:
    """Digests of rules and vocabulary, special tokens and chat template."""
    return {
        "tokenizer": fingerprint([_rules(tokenizer), *_settings(tokenizer)]),
        "special tokens": fingerprint(_special(tokenizer)),
        "chat template": fingerprint(getattr(tokenizer, "chat_template", None)),
    }


def _rules(tokenizer: Any) -> Any:
    """Normaliser, pre-tokeniser, vocabulary, merges, added tokens, post-processor, decoder."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and hasattr(backend, "to_str"):
        state = json.loads(backend.to_str())
        for name in _STATE_OF_CALLS:
            state.pop(name, None)
        return state
    added = {
        str(number): [str(token), *(bool(getattr(token, flag, False)) for flag in _FLAGS)]
        for number, token in getattr(tokenizer, "added_tokens_decoder", {}).items()
    }
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return [type(tokenizer).__name__, vocabulary, added, _files(tokenizer)]


_FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")


def _settings(tokenizer: Any) -> list[Any]:
    return [[name, getattr(tokenizer, name, None)] for name in _SETTINGS]


def _special(tokenizer: Any) -> list[Any]:
    names = getattr(tokenizer, "special_tokens_map", {})
    ids = [getattr(tokenizer, f"{kind}_token_id", None) for kind in ("bos", "eos", "pad", "unk")]
    return [{key: _text(value) for key, value in names.items()}, ids]


def _text(value: Any) -> Any:
    return [str(each) for each in value] if isinstance(value, list | tuple) else str(value)


def _files(tokenizer: Any) -> list[str]:
    """Digests of what a tokenizer in plain Python keeps in files, a sentencepiece model say."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            written = tokenizer.save_vocabulary(folder)
        except Exception:  # not all can
            return []
        return sorted(
            hashlib.blake2b(Path(file).read_bytes(), digest_size=8).hexdigest()
            for file in written or ()
            if file and Path(file).is_file()
        )
