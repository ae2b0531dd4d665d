"""Identifies the text of a store by its content, not by its path or time of change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monosemy.file_digest import digest_of_file
from monosemy.specs import TextSpec

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore

LOCAL_TEXT = (".txt", ".jsonl", ".jsonl.gz", ".parquet")
_BINARY = (".gz", ".parquet")


def text_stamp(text: TextSpec) -> dict[str, Any] | None:
    """``file``, ``digest``, ``bytes`` and, of plain text, ``lines``; None for what is no file here.

    Raises ``DataError`` for a file that cannot be read.
    """
    path = local_file(text)
    if path is None or not path.is_file():
        return None
    summary = digest_of_file(path)
    stamp = {"file": path.name, "digest": summary.digest, "bytes": summary.size}
    return stamp if path.name.endswith(_BINARY) else {**stamp, "lines": summary.lines}


def local_file(text: TextSpec) -> Path | None:
    """The file that the source names, whether it is there or not."""
    path = Path(text.source).expanduser()
    return path if text.source.endswith(LOCAL_TEXT) else None


def text_changes(recorded: Mapping[str, Any], store: TokenStore) -> list[str]:
    """What of the text is not as in ``recorded``, a store's ``summary`` kept earlier; empty where
    nothing is.

    Equal tokens are the same text, however they came about.  Tells of the text alone: that another
    tokenizer cuts it otherwise is the host model's change.
    """
    now = store.summary()
    for name in ("text_id", "tokens_digest"):
        if recorded.get(name) is not None and recorded.get(name) == now.get(name):
            return []
    before, after = recorded.get("stamp"), now.get("stamp")
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        if before.get("digest") == after.get("digest"):
            return [] if "tokens_digest" not in recorded else [_tokens(recorded, now)]
        return [f"text file {after.get('file')}: {_difference(before, after)}"]
    if "tokens" not in recorded:
        return []
    return [f"text {store.meta['text']['source']}: {_tokens(recorded, now)}"]


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    for unit, name in (("line", "lines"), ("byte", "bytes")):
        old, new = before.get(name), after.get(name)
        if isinstance(old, int) and isinstance(new, int) and old != new:
            count = abs(new - old)
            return f"{count} {unit}{'s' if count > 1 else ''} {'more' if new > old else 'fewer'}"
    return "other content of the same length"


def _tokens(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if recorded.get("tokens") != now["tokens"]:
        return f"{now['tokens']} tokens, {recorded.get('tokens')} before"
    return "other tokens, as many as before"
