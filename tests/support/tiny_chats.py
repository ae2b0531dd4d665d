"""Small dialogues, and a tiny model that has a chat template."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

from monosemy.models.host import HostModel
from tests.support.tiny_models import tiny_model
from tests.support.tiny_text import tiny_documents

TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<s>system\nBe brief.</s>\n' }}{% endif %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + message['role']) }}{% endif %}"
    "{{ '<s>' + message['role'] + '\n' + message['content'] + '</s>' + '\n' }}"
    "{% endfor %}"
)
"""ChatML as SmolLM2 has it, a default system message included, with <s> and </s> as its marks."""

START, END = 0, 1


def chat_host(tokenizer: Any, architecture: str = "llama") -> HostModel:
    """A random model of ``tests/models/tiny_models`` whose tokenizer renders chats."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = TEMPLATE
    return HostModel.wrap(tiny_model(architecture, len(tokenizer)), tokenizer, architecture)


def dialogues(count: int = 24) -> list[list[dict[str, str]]]:
    """Dialogues of one to three exchanges, some with a system message; all different."""
    chance = random.Random(1)
    sentences = [part + "." for text in tiny_documents() for part in text.split(". ")]
    chats = []
    for number in range(count):
        messages = [{"role": "system", "content": f"Case {number}."}] if number % 3 else []
        for _ in range(chance.randint(1, 3)):
            messages.append({"role": "user", "content": f"{number}? {chance.choice(sentences)}"})
            messages.append({"role": "assistant", "content": chance.choice(sentences)})
        chats.append(messages)
    return chats


def write_chats(file: Path, chats: list[Any], column: str = "messages") -> Path:
    file.write_text("".join(json.dumps({column: chat}) + "\n" for chat in chats), encoding="utf-8")
    return file
