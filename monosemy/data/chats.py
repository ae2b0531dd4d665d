"""Dialogues: checked, and rendered with the model's own chat template.

What is wrong with the file's structure is a ``DataError``; a dialogue that merely cannot be used
(no messages, no content, roles that the template refuses) is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from monosemy.data.templates import RENDERER, Refused
from monosemy.errors import DataError

Message = dict[str, str]

NO_MESSAGES, NO_CONTENT, REFUSED = "no_messages", "no_content", "refused_by_template"
"""Why a dialogue was left out."""

ROLES = ("system", "user", "assistant", "tool")


def messages_of(value: Any, column: str, where: str) -> list[Mapping[str, Any]]:
    """The messages in a record's column; null counts as none.  ``DataError`` if it is no list of
    objects with a role and a content."""
    if value is None:
        return []
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise DataError(
            f"{where}: '{column}' holds {type(value).__name__}, not a list of messages.",
            "A dialogue is [{'role': ..., 'content': ...}, ...]; for plain text set "
            "text.packing=document.",
        )
    for number, message in enumerate(value, 1):
        if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
            raise DataError(
                f"{where}: message {number} of '{column}' has no role and content.",
                _message_advice(message),
            )
        if not isinstance(message["role"], str) or not message["role"].strip():
            raise DataError(
                f"{where}: the role of message {number} of '{column}' is no text.",
                "Name who speaks: system, user or assistant.",
            )
    return list(value)


def _message_advice(message: Any) -> str | None:
    if isinstance(message, Mapping) and {"from", "value"} <= message.keys():
        return "Rename 'from' to 'role' (human: user, gpt: assistant) and 'value' to 'content'."
    if isinstance(message, str):
        return "For plain text set text.packing=document, one text per record."
    if isinstance(message, int):
        return "Token ids are no messages: name the column of the dialogue (text.column)."
    return None


class ChatRenderer:
    """Renders dialogues, and counts those that it has to leave out."""

    def __init__(self, tokenizer: Any, model_name: str) -> None:
        """``DataError`` for a tokenizer without a chat template."""
        if not getattr(tokenizer, "chat_template", None):
            raise DataError(
                f"{model_name} has no chat template, so chats cannot be rendered for it.",
                "Take an instruct model, or plain text with text.packing=document.",
            )
        self.tokenizer = tokenizer
        self.skipped: Counter[str] = Counter()
        self.first_refusal: str | None = None
        """What the template said to the first dialogue that it refused."""

    def render(self, dialogues: Sequence[Sequence[Mapping[str, Any]]]) -> list[str | None]:
        """Each dialogue as the model reads it, special tokens written out; None if left out.

        ``DataError`` for a template that costs too much time or memory again and again.
        """
        plain = [self._plain(messages) for messages in dialogues]
        usable = [chat for chat in plain if chat is not None]
        texts = iter(RENDERER.render(self.tokenizer, usable) if usable else [])
        return [None if chat is None else self._noted(next(texts)) for chat in plain]

    def _plain(self, messages: Sequence[Mapping[str, Any]]) -> list[Message] | None:
        """The messages as templates take them; None, and counted, for what has no text."""
        if not messages:
            self.skipped[NO_MESSAGES] += 1
            return None
        texts = [_text_of(message["content"]) for message in messages]
        if any(text is None for text in texts) or not any((text or "").strip() for text in texts):
            self.skipped[NO_CONTENT] += 1
            return None
        return [
            {"role": str(message["role"]), "content": text or ""}
            for message, text in zip(messages, texts, strict=True)
        ]

    def _noted(self, text: str | Refused) -> str | None:
        if not isinstance(text, Refused):
            return text
        self.first_refusal = self.first_refusal or text.reason
        self.skipped[REFUSED] += 1
        return None


def _text_of(content: Any) -> str | None:
    """Text, also out of a list of text parts; None for images, calls and null."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or not content:
        return None
    parts: list[str] = []
    for part in content:
        text = part.get("text") if isinstance(part, Mapping) else None
        if not isinstance(text, str):
            return None
        parts.append(text)
    return "".join(parts)


def special_ids(tokenizer: Any) -> list[int]:
    """Ids of the tokens that the tokenizer calls special, ascending."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {int(number) for number, token in added.items() if getattr(token, "special", False)}
    return sorted(special | {int(number) for number in tokenizer.all_special_ids})


def role_ids(tokenizer: Any) -> dict[str, int]:
    """Role name -> id, for the role names that are one token.

    FAST counts them among the special tokens (methods: 872 ``user`` and 77091 ``assistant`` of
    Qwen), wherever in a text they stand.
    """
    encoded = {role: tokenizer(role, add_special_tokens=False)["input_ids"] for role in ROLES}
    return {role: int(ids[0]) for role, ids in encoded.items() if len(ids) == 1}
