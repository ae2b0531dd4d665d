"""A prompt with what is known of it, and the sets that tasks make of such prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Example:
    """A prompt, its tokens, and what its author knows."""

    text: str
    ids: tuple[int, ...]
    """Of its tokens, without any special ones."""
    template: str = ""
    """Prompts of one template have equally many tokens, and their named places are the same;
    "" where nothing is known."""
    places: Mapping[str, int] = field(default_factory=dict)
    """Index into ``ids`` by name; ``end`` is the last token."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What the prompt is about, by name."""
    right: tuple[int, ...] = ()
    """Tokens that answer it; () where the prompt asks nothing."""
    wrong: tuple[int, ...] = ()
    """Tokens to tell them from."""


@dataclass(frozen=True)
class TaskPrompts:
    """Prompts that have what a task is about, and prompts like them that have not."""

    positive: tuple[Example, ...]
    negative: tuple[Example, ...]
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Words that this tokenizer does not read as the task needs them, by kind of word."""


def encode(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids of a text, without special tokens."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
