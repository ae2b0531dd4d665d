"""What the host model writes while latents are pushed, as events of a stream."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from monosemy.data.token_bytes import TokenBytes
from monosemy.errors import DataError
from monosemy.interp.lab import Lab
from monosemy.models.host import HostModel
from monosemy.steering.pushes import Push, Pushes
from monosemy.steering.writing import Writing, Written, write_on

STEERED, PLAIN = "steered", "plain"

T = TypeVar("T")
OnHost = Callable[[Callable[[], T]], T]
"""Runs something where the host model runs, and waits for it."""


@dataclass(frozen=True)
class Prompt:
    """A text or a chat, one of them."""

    text: str | None
    messages: Sequence[dict[str, str]] | None

    def tokens(self, host: HostModel, prepend_bos: bool) -> list[int]:
        """Raises ``DataError`` where the model has no chat template, or it refuses the chat."""
        if self.messages is None:
            ids = host.tokenizer(self.text, add_special_tokens=False)["input_ids"]
            lead = [host.bos_id] if prepend_bos and host.bos_id is not None else []
            return [*lead, *ids]
        if not getattr(host.tokenizer, "chat_template", None):
            raise DataError(f"{host.name} has no chat template.", "Send a prompt instead.")
        try:
            rendered = host.tokenizer.apply_chat_template(
                list(self.messages), tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # a template may raise whatever Jinja and Python can
            raise DataError(f"The chat template of {host.name} fails: {error}") from None
        # The template writes its own BOS, if it wants one.
        return [int(i) for i in host.tokenizer(rendered, add_special_tokens=False)["input_ids"]]


@dataclass(frozen=True)
class Steer:
    """What is asked for."""

    prompt: Prompt
    pushes: tuple[Push, ...]
    writing: Writing
    compare: bool
    """Also write on without pushing."""


def steered_events(
    lab: Lab, prepend_bos: bool, longest: int, asked: Steer, on_host: OnHost[Any]
) -> Iterator[dict[str, Any]]:
    """``prompt``, then ``token`` by token, then ``end``; each forward is one turn on the host.

    Raises ``DataError`` before the first event for what cannot be done.
    """
    host = lab.host
    pushes = Pushes(lab, asked.pushes)
    ids = on_host(lambda: asked.prompt.tokens(host, prepend_bos))
    if not 1 <= len(ids) <= longest - asked.writing.new_tokens:
        raise DataError(
            f"The prompt has {len(ids)} tokens and {asked.writing.new_tokens} are to come; "
            f"{host.name} can hold {longest}."
        )
    names = host.token_bytes()
    yield {"event": "prompt", "text": names.decode(ids), "tokens": len(ids)}
    rows = {STEERED: _Row(names)} | ({PLAIN: _Row(names)} if asked.compare else {})
    pushed = [pushes if name == STEERED else None for name in rows]
    writing = write_on(host, ids, pushed, asked.writing)
    while (step := on_host(lambda: next(writing, None))) is not None:
        for (name, row), written in zip(rows.items(), step, strict=True):
            if written is not None:
                yield {"event": "token", "row": name, **row.take(written)}
    yield {"event": "end", **{name: row.ended for name, row in rows.items()}}


class _Row:
    """One text as it grows; a character over several tokens comes with its last one."""

    def __init__(self, names: TokenBytes) -> None:
        self._names = names
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.ended = "length"
        """``stop`` where the model ended the text itself."""

    def take(self, written: Written) -> dict[str, Any]:
        if written.stopped:
            self.ended = "stop"
        text = self._decoder.decode(self._names[written.token], final=written.last)
        return {
            "id": written.token,
            "text": text,
            "logprob": round(written.logprob, 6),
            "top": [
                {"id": token, "text": self._names.decode([token]), "logprob": round(value, 6)}
                for token, value in written.top
            ],
            "last": written.last,
        }
