"""Chat templates, rendered in a process of their own, under limits of time, memory and length.

A template comes with a model and is a program: its loops may run for ever, its strings fill the
memory.  Jinja's sandbox, as transformers sets it up, keeps it from files and code; what it costs is
bounded here.  One child renders for all threads of a process; it starts with the first chat (about
half a second) and anew after one that had to be ended.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monosemy.data import template_process
from monosemy.data.template_process import LENGTH
from monosemy.errors import DataError

Chat = Sequence[Mapping[str, str]]
"""Messages with a role and a content."""


@dataclass(frozen=True)
class TemplateLimits:
    """What one chat may cost."""

    seconds: int = 5
    """Of processor time."""
    wall_seconds: float = 60.0
    """Of any time, should the process hang; far more, since the machine may be busy."""
    bytes: int = 1 << 30
    """Of memory beyond what the process has when it does nothing."""
    characters: int = 4_000_000
    """Longest text, beyond sixteen times what the messages of its request hold."""
    chat_characters: int = 32_000_000
    """Longest chat."""


LIMITS = TemplateLimits()
MOST_COSTLY = 3
"""A template that went beyond a limit so often is not tried again in this process."""
_AT_ONCE, _CHATS_AT_ONCE = 2_000_000, 512
"""Characters (but for a chat that has more) and chats of one request."""


@dataclass(frozen=True)
class Refused:
    """Why a template gave no text for a chat."""

    reason: str


class TemplateRenderer:
    """Renders with any template; thread-safe.  ``close`` ends its process."""

    def __init__(self, limits: TemplateLimits = LIMITS) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0  # a fork must not talk to its parent's child
        self._costly: Counter[str] = Counter()

    def render(
        self, tokenizer: Any, chats: Sequence[Chat], generation_prompt: bool = False
    ) -> list[str | Refused]:
        """What the tokenizer's template makes of each chat, as ``apply_chat_template`` does.

        ``generation_prompt``: whether the text ends with what precedes the model's answer.
        ``Refused`` for a chat that the template refuses or that goes beyond a limit; ``DataError``
        for a template that has done so ``MOST_COSTLY`` times.
        """
        try:
            template = str(tokenizer.get_chat_template())
        except ValueError as error:  # several templates, none of them the default
            return [Refused(str(error).splitlines()[0])] * len(chats)
        variables = {
            **{name: _plain(value) for name, value in tokenizer.special_tokens_map.items()},
            "add_generation_prompt": generation_prompt,
        }
        results: list[str | Refused] = []
        with self._lock:
            while len(results) < len(chats):
                if self._costly[template] >= MOST_COSTLY:
                    raise DataError(
                        "The model's chat template takes too much time or memory: it was ended "
                        f"{MOST_COSTLY} times.",
                        "Mend its chat_template, or take plain text with text.packing=document.",
                    )
                at = len(results)
                results += self._some(template, variables, chats[at : at + _CHATS_AT_ONCE])
        return results

    def close(self) -> None:
        """Ends the process; the next chat would start another."""
        with self._lock:
            self._end()

    def _some(
        self, template: str, variables: dict[str, Any], chats: Sequence[Chat]
    ) -> list[str | Refused]:
        """Of at least one chat, at most as many as one request holds."""
        sizes = [sum(len(message["content"]) for message in chat) for chat in chats]
        if sizes[0] > self.limits.chat_characters:
            return [Refused(f"the chat has {sizes[0]} characters")]
        number, size = 1, sizes[0]
        while number < len(chats) and size + sizes[number] <= _AT_ONCE:
            size += sizes[number]
            number += 1
        request = {
            "template": template,
            "chats": [list(map(dict, chat)) for chat in chats[:number]],
            "variables": variables,
            "seconds": self.limits.seconds,
            "bytes": self.limits.bytes,
            "characters": self.limits.characters + 16 * size,
        }
        results: list[str | Refused] = []
        child = self._running()
        try:
            assert child.stdin is not None
            template_process.write_frame(child.stdin, request)
            child.stdin.flush()
            while len(results) < number and child is self._child:
                results.append(self._answer(child, template))
        except BrokenPipeError:
            self._costly[template] += 1
            self._end()
            results.append(Refused("its process ended before it had read the chat"))
        except BaseException:  # no caller may read what is left in the pipe
            self._end()
            raise
        return results

    def _answer(self, child: subprocess.Popen[bytes], template: str) -> str | Refused:
        answer = _frame_within(child, self.limits.wall_seconds)
        if answer is None:
            self._costly[template] += 1
            self._end()
            return Refused(f"it takes more than {self.limits.seconds} s")
        if "text" in answer:
            return str(answer["text"])
        if answer["costly"]:
            self._costly[template] += 1
        if answer.get("exhausted"):
            self._end()
        return Refused(str(answer["error"]))

    def _running(self) -> subprocess.Popen[bytes]:
        if self._owner != os.getpid():
            self._child, self._owner = None, os.getpid()
        if self._child is None or self._child.poll() is not None:
            self._end()
            self._child = subprocess.Popen(  # our own interpreter and file
                [sys.executable, "-I", str(Path(template_process.__file__))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # No secret of ours is in its environment.
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": os.environ.get("TZ", "")},
                close_fds=True,
            )
        return self._child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            try:
                if stream is not None:
                    stream.close()
            except BrokenPipeError:  # what it had not read
                continue


def _plain(value: Any) -> Any:
    return [str(each) for each in value] if isinstance(value, list | tuple) else str(value)


def _frame_within(child: subprocess.Popen[bytes], seconds: float) -> Any:
    """The child's next frame; None where it ends, or is silent for so long."""
    deadline = time.monotonic() + seconds
    head = _read_within(child, LENGTH.size, deadline)
    body = None if head is None else _read_within(child, LENGTH.unpack(head)[0], deadline)
    return None if body is None else json.loads(body)


def _read_within(child: subprocess.Popen[bytes], size: int, deadline: float) -> bytes | None:
    assert child.stdout is not None
    descriptor, parts = child.stdout.fileno(), bytearray()
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN | select.POLLHUP)
    while len(parts) < size:
        left = deadline - time.monotonic()
        if left <= 0 or not waiting.poll(left * 1000):
            return None
        part = os.read(descriptor, min(size - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


RENDERER = TemplateRenderer()
"""The process's own; its child ends with it, since its standard input does."""
