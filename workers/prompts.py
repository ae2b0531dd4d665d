"""Texts and chats as a host model's tokens."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from monosemy.data.characters import encodable
from monosemy.data.templates import RENDERER, Refused
from monosemy.data.token_bytes import TokenBytes
from monosemy.errors import DataError
from monosemy.specs.inference.prompts import TokenText


@dataclass(frozen=True)
class Prompt:
    """A text or a chat, one of them."""

    text: str | None
    messages: Sequence[dict[str, str]] | None
    generation_prompt: bool = True
    """Whether a chat ends with what the template puts before the model's answer."""


class Tokenizing:
    """A tokenizer that several threads may use: the fast ones cannot be entered twice at once."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self.name = name
        self.tokenizer = tokenizer
        self.bos_id: int | None = tokenizer.bos_token_id
        self._lock = threading.Lock()

    def encode(self, prompt: Prompt) -> list[int]:
        """Ids of a text without BOS, or of a chat as its template writes it.

        Raises ``DataError`` where the model has no chat template, or it refuses the chat.
        """
        with self._lock:
            text = prompt.text if prompt.messages is None else self._rendered(prompt)
            text, _ = encodable(text or "")
            return [int(i) for i in self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def row(self, prompt: Prompt, prepend_bos: bool) -> tuple[list[int], int]:
        """(what the host model reads, how many of it, 0 or 1, are a leading BOS).

        A text gets its BOS where ``prepend_bos`` says so; a chat has that of its template, if any.
        Raises as ``encode`` does.
        """
        ids = self.encode(prompt)
        if prompt.messages is not None:
            return ids, int(self.bos_id is not None and ids[:1] == [self.bos_id])
        if prepend_bos and self.bos_id is not None:
            return [self.bos_id, *ids], 1
        return ids, 0

    def pieces(self, ids: Sequence[int]) -> list[TokenText]:
        """Their texts, joined, are the text."""
        texts = self.token_bytes.pieces(ids)
        return [TokenText(id=token, text=text) for token, text in zip(ids, texts, strict=True)]

    @cached_property
    def token_bytes(self) -> TokenBytes:
        return TokenBytes.from_tokenizer(self.tokenizer)

    def _rendered(self, prompt: Prompt) -> str:
        if not getattr(self.tokenizer, "chat_template", None):
            raise DataError(f"{self.name} has no chat template.", "Send a text instead.")
        chat = list(prompt.messages or ())
        (rendered,) = RENDERER.render(self.tokenizer, [chat], prompt.generation_prompt)
        if isinstance(rendered, Refused):
            raise DataError(f"The chat template of {self.name} fails: {rendered.reason}")
        return rendered
